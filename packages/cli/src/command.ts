/** What a command is: a function that adds itself to the program, does its work, and tells its exit code. */
import type { Command } from "commander";
import type { Terminal } from "./terminal.ts";

export interface CommandContext {
  readonly terminal: Terminal;
  readonly setExit: (code: number) => void;
}

export type AddCommand = (program: Command, context: CommandContext) => void;

export const EXIT_FAILED = 1;
export const EXIT_BAD_INPUT = 2;
