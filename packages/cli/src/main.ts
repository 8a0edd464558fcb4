#!/usr/bin/env node
/** START HERE for the process `calicoctl`: arguments in, exit code out. The commands are in `program.ts`. */
import { runCalicoctl } from "./program.ts";
import { processTerminal } from "./terminal.ts";

process.exitCode = await runCalicoctl(process.argv.slice(2), processTerminal());
