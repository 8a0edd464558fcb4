/**
 * Every command, each in its own file of `commands/`. A command is a function that adds itself to the program and tells its
 * exit code; to add one, write the file and name it in COMMANDS.
 *
 *   0  done      1  failed, or the answer is no (`lint` found errors, `--expect` was not met)      2  bad input, of the commands that are ours alone
 */
import { errorText, hasCode } from "@calico-ts/std";
import { Command, CommanderError } from "commander";
import { addBgp } from "./commands/bgp.ts";
import { addDatastore } from "./commands/datastore.ts";
import { addExplain } from "./commands/explain.ts";
import { addIpam } from "./commands/ipam.ts";
import { addLint } from "./commands/lint.ts";
import { addNode } from "./commands/node.ts";
import type { AddCommand } from "./command.ts";
import { EXIT_BAD_INPUT, EXIT_FAILED } from "./command.ts";
import type { Terminal } from "./terminal.ts";

const COMMANDS: readonly AddCommand[] = [addDatastore, addBgp, addExplain, addIpam, addLint, addNode];

/** Commands that upstream's calicoctl does not have. Its own end with 1 whatever is wrong, and so do ours of the same name: scripts know no other code. */
const OURS_ALONE: ReadonlySet<string> = new Set(["bgp", "explain", "lint"]);

/** `argv` without node and script. Returns the exit code and never exits itself. */
export async function runCalicoctl(argv: readonly string[], terminal: Terminal): Promise<number> {
  const badInput = OURS_ALONE.has(argv[0] ?? "") ? EXIT_BAD_INPUT : EXIT_FAILED;
  let exitCode = 0;
  const program = new Command("calicoctl")
    .description("Asks about and works on a Calico network.")
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.note(text.trimEnd()),
    });
  const setExit = (code: number): void => {
    exitCode = code;
  };
  for (const add of COMMANDS) add(program, { terminal, setExit });
  try {
    await program.parseAsync([...argv], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : badInput; // it has said why
    terminal.note(terminal.colors.red(errorText(error)));
    return hasCode(error, "BAD_INPUT") ? badInput : EXIT_FAILED;
  }
}
