/**
 * Start of day and single changes at size: 10 000 endpoints (200 of them local) in 100 namespaces, 1 000 policies.
 * `node --conditions=calico-src packages/policy-compiler/bench/start-of-day.ts`
 */
import { changePlan, createCompiler, NftPolicyRenderer } from "../src/index.ts";
import type { CompilerUpdate } from "../src/index.ts";
import { namespace, raw } from "../src/testing/resources.ts";

const POLICIES = 1000;
const PODS = 10_000;
const LOCAL = 200;
const NAMESPACES = 100;

function pod(at: number, labels: Readonly<Record<string, string>>): CompilerUpdate {
  const name = `p${at}`;
  return raw(
    "Pod",
    name,
    {
      metadata: { labels },
      spec: { nodeName: at % (PODS / LOCAL) === 0 ? "n1" : "n2", serviceAccountName: "default", containers: [] },
      status: { podIPs: [{ ip: `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}` }] },
    },
    `ns${at % NAMESPACES}`,
  );
}

const labelsOf = (at: number): Record<string, string> => ({ app: `app${at % 37}`, tier: `t${at % 5}` });

function* world(): Iterable<CompilerUpdate> {
  for (let at = 0; at < NAMESPACES; at++) yield namespace(`ns${at}`, { team: `team${at % 10}` });
  for (let at = 0; at < PODS; at++) yield pod(at, labelsOf(at));
  for (let at = 0; at < POLICIES; at++) {
    const source =
      at % 3 === 0 ? { namespaceSelector: `team == 'team${at % 10}'` } : { selector: `app == 'app${(at * 7) % 37}'` };
    yield raw(
      "NetworkPolicy",
      `np${at}`,
      {
        spec: {
          selector: `app == 'app${at % 37}'`,
          types: ["Ingress"],
          ingress: Array.from({ length: 5 }, (_, index) => ({
            action: "Allow",
            protocol: "TCP",
            source,
            destination: { ports: [8000 + index] },
          })),
        },
      },
      `ns${at % NAMESPACES}`,
    );
  }
}

function timed<T>(what: string, work: () => T): T {
  const start = performance.now();
  const result = work();
  process.stdout.write(`${what.padEnd(52)} ${(performance.now() - start).toFixed(1)} ms\n`);
  return result;
}

const updates = [...world()];
const renderer = new NftPolicyRenderer();
let messages = 0;
const compiler = createCompiler({
  node: "n1",
  emit: (message) => {
    messages++;
    renderer.receive(message);
  },
});
timed("updates", () => {
  for (const update of updates) compiler.update(update);
});
timed("first flush", () => {
  compiler.setInSync();
  compiler.flush();
});
const commands = timed("render", () => changePlan(renderer.take()).before.flat());
process.stdout.write(
  `${messages} messages, ${commands.length} commands, ${Math.round(process.memoryUsage().heapUsed / 1e6)} MB heap\n`,
);

const one = (what: string, update: CompilerUpdate): void =>
  timed(what, () => {
    compiler.update(update);
    compiler.flush();
    const { after, before } = changePlan(renderer.take());
    process.stdout.write(`  ${[...before, ...after].length} transactions: `);
  });
one("a remote pod moves to another label", pod(1, { app: "app3" }));
one("a new local pod like others", pod(PODS, labelsOf(0)));
one("a local pod is relabelled", pod(0, { app: "app9" }));
one("a namespace label moves 100 pods", namespace("ns1", { team: "team9" }));
timed("ten namespace labels move 1000 pods", () => {
  for (let at = 10; at < 20; at++) compiler.update(namespace(`ns${at}`, { team: "team3" }));
  compiler.flush();
  changePlan(renderer.take());
});
