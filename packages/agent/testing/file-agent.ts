/**
 * The agent as a process of its own, for tests that kill it: its datastore is a JSON file of entries (world.ts), looked at every
 * 20 ms. Runs in the network namespace it is started in.
 *
 *   node --conditions=calico-src file-agent.ts <entries.json> <node> <host root>
 */
import { readFileSync, statSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { openMemory } from "@calico-ts/datastore";
import { openKernel } from "@calico-ts/linux";
import { createLogger, runUntilSignal, systemClock } from "@calico-ts/runtime";
import { openSyncer } from "@calico-ts/sync";
import { runAgent } from "../src/agent.ts";
import { configFromEnvironment } from "../src/config/resolve.ts";
import { SYNC_KINDS } from "../src/intake/kinds.ts";
import { type Entry, put, remove } from "./world.ts";

const [, , file = "", node = "", hostRoot = ""] = process.argv;
const log = createLogger({ component: "felix", stream: process.stdout, level: "Info" });
const client = openMemory();
const keyOf = ({ kind, resource: { metadata } }: Entry): string =>
  `${kind}/${metadata.namespace ?? ""}/${metadata.name}`;

let known = new Map<string, Entry>();
let version = "";

async function load(): Promise<void> {
  const { mtimeMs, size } = statSync(file);
  if (version === `${mtimeMs} ${size}`) return;
  version = `${mtimeMs} ${size}`;
  const next = new Map((JSON.parse(readFileSync(file, "utf8")) as Entry[]).map((entry) => [keyOf(entry), entry]));
  for (const [key, entry] of known) if (!next.has(key)) await remove(client, entry);
  for (const [key, entry] of next) {
    if (JSON.stringify(known.get(key)) !== JSON.stringify(entry)) await put(client, entry);
  }
  known = next;
}

await load();
flushCompileCache(); // the test kills it, and the next one need not compile what this one has
setInterval(() => void load(), 20).unref();
using kernel = openKernel();
const code = await runUntilSignal(
  async (signal) => {
    const outcome = await runAgent(
      {
        node,
        hostRoot,
        localConfig: configFromEnvironment(process.env),
        kernel,
        clock: systemClock,
        log,
        openSyncer: (end) => openSyncer({ client, kinds: SYNC_KINDS, signal: end }),
      },
      signal,
    );
    if (outcome === "restart") process.exitCode = 129;
  },
  { log },
);
process.exit(process.exitCode ?? code);
