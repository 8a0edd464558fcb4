export type { AddCommand, CommandContext } from "./command.ts";
export { runCalicoctl } from "./program.ts";
export type { Terminal } from "./terminal.ts";
export { processTerminal } from "./terminal.ts";
