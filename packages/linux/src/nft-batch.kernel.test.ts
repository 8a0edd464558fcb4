/** Transactions of the size a node has: one batch, not blocking this process, and within what `nft -f` needs in the same run. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import {
  accept,
  addressElement,
  counter,
  lookup,
  matchDestinationPort,
  matchFamily,
  matchProtocol,
  type NftCommand,
  type NftSet,
  type NftTable,
  renderCommand,
  rule,
} from "@calico-ts/netlink";
import { expect, test } from "vitest";
import { inNamespace } from "./namespace.ts";
import { openKernel } from "./open-kernel.ts";
import { scratchNamespace } from "./testing/scratch.ts";

const SETS = 2000;
const MEMBERS = 100;
const RULES = 10;
const table: NftTable = { family: "inet", name: "calico" };
const setOf = (n: number): NftSet => ({ name: `set-${n}`, keyTypes: ["ipv4_addr"] });

function wholeNode(): NftCommand[] {
  const commands: NftCommand[] = [{ do: "add-table", table }];
  for (let n = 0; n < SETS; n++) {
    const set = setOf(n);
    const elements = Array.from({ length: MEMBERS }, (_, m) =>
      addressElement({ family: 4, value: BigInt(0x0a00_0000 + n * MEMBERS + m) }),
    );
    commands.push({ do: "add-set", table, set }, { do: "add-elements", table, set, elements });
  }
  for (let n = 0; n < SETS; n++) {
    const chain = `policy-${n}`;
    commands.push({ do: "add-chain", table, chain: { name: chain } });
    for (let r = 0; r < RULES; r++) {
      const port = 80 + r;
      const exprs = [
        ...matchFamily(4),
        ...matchProtocol(6),
        ...lookup(`set-${(n + r) % SETS}`, ["ip saddr"]),
        ...matchDestinationPort({ first: port, last: port }),
        ...counter(),
        ...accept(),
      ];
      commands.push({
        do: "add-rule",
        table,
        chain,
        rule: rule(exprs, `KubernetesNetworkPolicy|ns-${n}/policy|ingress|${r}`),
      });
    }
  }
  return commands;
}

const sorted = (values: readonly number[]): number[] => values.toSorted((a, b) => a - b);
const quantile = (values: readonly number[], q: number): number => sorted(values)[Math.floor(values.length * q)] ?? 0;

test("2 000 sets × 100 members and 2 000 chains × 10 rules in one transaction; one change among them", async () => {
  using scratch = scratchNamespace("batch");
  using peer = scratchNamespace("batch");
  const { nft } = scratch.kernel;
  const commands = wholeNode();
  await nft.generation();
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const started = performance.now();
  await nft.apply(commands);
  const ours = performance.now() - started;
  delay.disable();
  expect(await nft.generation()).toBe(2);
  const rules = await nft.listRules(table);
  expect(rules).toHaveLength(SETS * RULES);
  expect(await nft.listElements(table, setOf(SETS - 1))).toHaveLength(MEMBERS);

  const folder = mkdtempSync(join(tmpdir(), "ct-nft-"));
  const file = join(folder, "ruleset.nft");
  writeFileSync(file, `${commands.map(renderCommand).join("\n")}\n`);
  const startedPeer = performance.now();
  const { status, stderr } = inNamespace(peer.path, () => spawnSync("nft", ["-f", file], { encoding: "utf8" }));
  const theirs = performance.now() - startedPeer;
  rmSync(folder, { recursive: true });
  expect([status, stderr]).toEqual([0, ""]);

  const latencies: number[] = [];
  for (let n = 0; n < 1000; n++) {
    const before = performance.now();
    await nft.apply([
      {
        do: "add-elements",
        table,
        set: setOf(7),
        elements: [addressElement({ family: 4, value: BigInt(0x0b00_0000 + n) })],
      },
    ]);
    latencies.push(performance.now() - before);
  }
  process.stdout.write(
    `batch of ${commands.length} commands: ${ours.toFixed(0)} ms, event loop held at most ${(delay.max / 1e6).toFixed(0)} ms; nft -f: ${theirs.toFixed(0)} ms; ` +
      `one element among it: p50 ${quantile(latencies, 0.5).toFixed(3)} ms, p99 ${quantile(latencies, 0.99).toFixed(3)} ms\n`,
  );
});

test("a refusal in a long batch names the command, and nothing stays", async () => {
  using scratch = scratchNamespace("batch");
  const { nft } = scratch.kernel;
  const commands = wholeNode().slice(0, 3000);
  const bad: NftCommand = { do: "add-rule", table, chain: "nowhere", rule: rule(accept(), "the bad one") };
  await expect(nft.apply([...commands, bad, ...commands])).rejects.toMatchObject({
    code: "KERNEL",
    message: expect.stringContaining('add-rule inet calico nowhere "the bad one"'),
    detail: { errnoName: "ENOENT", commandIndex: 3000 },
  });
  expect(await nft.listTables()).toEqual([]);
  const allBad = Array.from({ length: 30_000 }, () => bad);
  await expect(nft.apply([{ do: "add-table", table }, ...allBad])).rejects.toMatchObject({
    detail: { commandIndex: 1 },
  });
  await nft.apply([{ do: "add-table", table }]);
  expect(await nft.listTables()).toEqual([table]);
});

test("disposing while a transaction is under way does not break it", async () => {
  using scratch = scratchNamespace("batch");
  const second = openKernel({ netns: scratch.path });
  const running = second.nft.apply(wholeNode().slice(0, 2000));
  second[Symbol.dispose]();
  await running;
  expect(await scratch.kernel.nft.listTables()).toEqual([table]);
});
