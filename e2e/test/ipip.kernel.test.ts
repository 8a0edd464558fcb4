import { rmSync } from "node:fs";
import { join } from "node:path";
import { probeCapabilities } from "@calico-ts/linux";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command } from "./simulator.ts";
import { hasUml, runInUml } from "./uml/uml.ts";

// IPIP on a live cluster (uml/ipip-scenario.ts): on this kernel when it has ipip, in user-mode Linux when it has not.

const SCENARIO = join(import.meta.dirname, "uml/ipip-scenario.ts");
const PROGRAM = join(import.meta.dirname, `../dist/test/ipip-scenario-${process.pid}.mjs`);
const TIMEOUT_MS = 300_000;
const MODULES = ["veth", "bridge", "ipip", "vxlan", "nf_tables", "nf_conntrack", "nf_conntrack_netlink", "ipv6"];

const STEPS = [
  "none: neighbours reach each other as they are, and tunl0 is left alone",
  "none → IPIP: tunl0 is made, addressed from the pool, up, and 20 bytes smaller",
  "IPIP: every pod reaches every other, through tunl0",
  "IPIP: what is done to tunl0 behind our back is repaired",
  "IPIP → across subnets only: plain to the neighbour, tunl0 to the others",
  "IPIP → VXLAN: the other device takes over, and tunl0 has no address any more",
  "VXLAN → IPIP → none: both devices are given up, neighbours are reached as they are",
];

interface Said {
  readonly step?: string;
  readonly ok?: boolean;
  readonly detail?: string;
}

const native = (await probeCapabilities()).has("link:ipip");
const possible = native || hasUml();
if (!possible) {
  const why = "this kernel has no ipip, and there is no user-mode Linux for this architecture";
  process.stderr.write(`ipip: ${why}; its scenario cannot run here\n`);
}

interface Outcome {
  readonly exitCode: number | undefined;
  readonly output: string;
}

describe.skipIf(!possible)("a pool's mode is changed on a live cluster", () => {
  const said = new Map<string, Said>();
  let all: Outcome;

  beforeAll(async () => {
    await bundle();
    all = native ? await natively() : await inUml();
    for (const line of all.output.split("\n").filter((text) => text.startsWith("{"))) {
      const one = JSON.parse(line) as Said;
      if (one.step !== undefined) said.set(one.step, one);
    }
  }, TIMEOUT_MS + 30_000);
  afterAll(() => rmSync(PROGRAM, { force: true }));

  test.each(STEPS)("%s", (step) => {
    expect(said.get(step) ?? `the scenario did not come that far:\n${all.output}`).toMatchObject({ step, ok: true });
  });

  test("nothing else went wrong", () => {
    expect({ exitCode: all.exitCode, output: all.exitCode === 0 ? "" : all.output }).toEqual({
      exitCode: 0,
      output: "",
    });
    expect([...said.keys()]).toEqual(STEPS);
  });
});

/** One file: a hundred of them take long to be read through two kernels. */
async function bundle(): Promise<void> {
  await build({
    entryPoints: [SCENARIO],
    outfile: PROGRAM,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    conditions: ["calico-src"],
    external: ["koffi"],
    logLevel: "warning",
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url); const __filename = import.meta.filename; const __dirname = import.meta.dirname;',
    },
  });
}

async function natively(): Promise<Outcome> {
  const { code, stdout, stderr } = await command(process.execPath, [PROGRAM], { timeoutMs: TIMEOUT_MS });
  return { exitCode: code, output: `${stdout}\n${stderr}` };
}

async function inUml(): Promise<Outcome> {
  const found = await runInUml({ argv: [process.execPath, PROGRAM], modules: MODULES, timeoutMs: TIMEOUT_MS });
  return { exitCode: found.exitCode, output: [found.stdout, found.stderr.slice(-8000), found.console].join("\n") };
}
