/**
 * The tour's first stop: brings a cluster up with the demo, compares it with what its policies promise, and leaves it running.
 * Called again while it runs, it only proves it again.
 */
import type { Colors } from "picocolors/types.js";
import { readManifests } from "../manifests/manifest-files.ts";
import { DEFAULT_RUN } from "../names.ts";
import { runState } from "../run/run-folder.ts";
import type { SimulatorPlugins, Terminal } from "./plugins.ts";
import { matrix } from "./probe.ts";
import { hints, up } from "./up.ts";
import { verify } from "./verify.ts";

/** Policies need no time to settle after `up`; a busy machine may still lose a packet. */
const SETTLE_SECONDS = 10;
const UP_TIMEOUT_SECONDS = 180;

export async function demo(
  plugins: SimulatorPlugins,
  view: { readonly terminal: Terminal; readonly colors: Colors; readonly width: number },
): Promise<number> {
  const { terminal, colors } = view;
  const { demo: parts } = plugins;
  if (parts === undefined) return 0;
  if (runState(DEFAULT_RUN) === "running") {
    terminal.note(`run ${DEFAULT_RUN} is up already; it stays as it is`);
  } else {
    const code = await up({ manifests: [parts.manifests], timeout: UP_TIMEOUT_SECONDS }, plugins, terminal);
    if (code !== 0) return code;
  }
  terminal.out(`\n${colors.bold("Who may talk to whom, asked with real packets:")}\n`);
  const namespaces = readManifests([parts.manifests]).flatMap(({ kind, name }) => (kind === "Namespace" ? [name] : []));
  await matrix(DEFAULT_RUN, { namespace: namespaces }, view);
  terminal.out(`\n${colors.bold(`And as ${parts.expectations} wants it:`)}\n`);
  const agrees = await verify({ run: DEFAULT_RUN, file: parts.expectations }, { within: SETTLE_SECONDS }, view);
  terminal.out(`\nIt stays up. Look around, and stop it with the last of these:\n\n${hints(DEFAULT_RUN, plugins)}`);
  return agrees;
}
