/**
 * Verdicts at 294 policies × 68 rules (20 000 rules) over 3 700 selectors, all of them applying to one pod, where the last rule
 * decides. `node --conditions=calico-src packages/policy-compiler/bench/oracle.ts`
 */
import { createOracle } from "../src/index.ts";
import type { CompilerUpdate } from "../src/index.ts";
import { globalPolicy, namespace, pod, resource } from "../src/testing/resources.ts";

const POLICIES = 294;
const RULES = 68;
const SELECTORS = 3700;
const PODS = 1000;
const VERDICTS = 2000;

const address = (at: number): string => `10.0.${at >> 8}.${at & 255}`;
const world: CompilerUpdate[] = [
  namespace("a"),
  resource("Tier", "default", { spec: { order: 1_000_000, defaultAction: "Deny" } }),
  ...Array.from({ length: PODS }, (_, at) => pod(`a/p${at}`, { ips: [address(at)], labels: { app: `app${at}` } })),
];
for (let at = 0; at < POLICIES; at++) {
  const ingress = Array.from({ length: RULES }, (_, index) => ({
    action: "Allow",
    protocol: "TCP",
    source: { selector: `app == 'other${(at * RULES + index) % SELECTORS}'` },
    destination: { ports: [80 + (index % 3)] },
  }));
  world.push(globalPolicy(`p${String(at).padStart(4, "0")}`, { selector: "app == 'app0'", ingress }));
}

/** Wall clock and processor time in ms: on a busy machine the second says more. */
const now = (): readonly [number, number] => {
  const { user, system } = process.cpuUsage();
  return [performance.now(), (user + system) / 1000];
};
const each = (from: readonly [number, number], to: readonly [number, number]): string =>
  `${((to[0] - from[0]) / VERDICTS).toFixed(3)} ms (processor ${((to[1] - from[1]) / VERDICTS).toFixed(3)} ms)`;

const start = performance.now();
const oracle = createOracle(world);
const ask = (at: number): boolean =>
  oracle.verdict({
    from: { pod: `a/p${1 + (at % (PODS - 1))}` },
    to: { pod: "a/p0" },
    protocol: 6,
    destinationPort: 80,
  }).allowed;
ask(0);
const read = performance.now() - start;
const ready = now();
for (let at = 0; at < VERDICTS; at++) ask(at);
const fresh = now();
for (let at = 0; at < VERDICTS; at++) ask(at);
const warm = now();
process.stdout.write(
  `reading the world ${read.toFixed(0)} ms; a verdict ${each(ready, fresh)}, for addresses asked before ${each(fresh, warm)}\n`,
);
