import { FakeNft } from "@calico-ts/linux/testing";
import type { NftCommand } from "@calico-ts/netlink";
import { diffRulesets, isEmptyChange, NftPolicyRenderer } from "@calico-ts/policy-compiler";
import { silentLogger } from "@calico-ts/runtime";
import { CalicoError, errorText } from "@calico-ts/std";
import { describe, expect, test } from "vitest";
import { ipSet, openProfile, policyFor, tierWith, workload } from "../../../testing/messages.ts";
import { STAND_IN, TABLE } from "../ownership.ts";
import { readRuleset, TableDriver, type TableKernel } from "./table-driver.ts";

const FOREIGN = { family: "inet", name: "operator" } as const;

/** Tables all of whose base chains that should have rules have them. */
async function guarding(nft: FakeNft): Promise<string[]> {
  const names: string[] = [];
  for (const table of [TABLE, STAND_IN]) {
    const rules = new Set((await nft.listRules(table)).map(({ chain }) => chain));
    const bases = (await nft.listChains(table)).filter(({ base }) => base !== undefined);
    if (bases.length > 0 && bases.every(({ name }) => rules.has(name))) names.push(table.name);
  }
  return names;
}

function world() {
  const nft = new FakeNft();
  const batches: (readonly NftCommand[])[] = [];
  /** Which tables let packets in after each transaction: base chains with rules. */
  const entrances: string[][] = [];
  let refusals = 0;
  let before = 0;
  const kernel: TableKernel = {
    listTables: () => nft.listTables(),
    listChains: (table) => nft.listChains(table),
    listRules: (table, chain) => nft.listRules(table, chain),
    listSets: (table) => nft.listSets(table),
    listElements: (table, set) => nft.listElements(table, set),
    generation: () => nft.generation(),
    apply: async (commands) => {
      if (before-- <= 0 && refusals-- > 0) {
        throw new CalicoError("KERNEL", "command 7 (add-rule): Operation not supported", {
          detail: { errno: 95, errnoName: "EOPNOTSUPP", operation: "add-rule" },
        });
      }
      await nft.apply(commands);
      batches.push(commands);
      entrances.push(await guarding(nft));
    },
  };
  const renderer = new NftPolicyRenderer();
  /** What the links were set to, each with the number of transactions before it. */
  const groups: { readonly wanted: ReadonlyMap<string, number>; readonly after: number }[] = [];
  let linksRefuse = false;
  const another = (): TableDriver =>
    new TableDriver({
      kernel,
      source: renderer,
      setGroups: (wanted) => {
        if (linksRefuse) throw new CalicoError("KERNEL", "change link 7: Operation not permitted");
        groups.push({ wanted, after: batches.length });
      },
      log: silentLogger,
    });
  const driver = another();
  const messages = [
    ...[ipSet("s1", "10.0.0.1", "10.0.0.2"), policyFor("p", "s1"), openProfile],
    ...[workload("cali1", "10.0.0.1"), workload("cali2", "10.0.0.2", { tiers: tierWith("p") })],
  ];
  const send = (): void => {
    for (const message of messages) renderer.receive(message);
  };
  /** That many transactions, after some that are let through. */
  const refuse = (times: number, after = 0): void => {
    refusals = times;
    before = after;
  };
  const refuseLinks = (refused: boolean): void => {
    linksRefuse = refused;
  };
  return { another, batches, entrances, driver, groups, nft, renderer, kernel, send, refuse, refuseLinks };
}

describe("table driver", () => {
  test("writes everything in one transaction and ends it when the links are set, then only what changes", async () => {
    const { batches, driver, groups, kernel, renderer, send } = world();
    send();
    await driver.apply();
    expect(batches).toHaveLength(2);
    expect(groups.map(({ after }) => after)).toEqual([1]);
    expect([...(groups[0]?.wanted.keys() ?? [])].toSorted()).toEqual(["cali1", "cali2"]);
    expect(new Set(batches[1]?.map((command) => command.do))).toEqual(new Set(["add-table", "delete-elements"]));
    expect([...(await readRuleset(kernel)).chains.keys()].toSorted()).toEqual(
      [...renderer.desired().chains.keys()].toSorted(),
    );
    await driver.apply();
    expect(batches).toHaveLength(2);
    renderer.receive({ kind: "ip-set-delta", id: "s1", added: ["10.0.0.3"], removed: ["10.0.0.1"] });
    await driver.apply();
    expect(batches).toHaveLength(3);
    expect(new Set(batches[2]?.map((command) => command.do))).toEqual(
      new Set(["add-table", "delete-elements", "add-elements"]),
    );
  });

  test("a new process finds the table right and writes nothing; what is not wanted goes, foreign tables stay", async () => {
    const { another, driver, kernel, nft, send } = world();
    send();
    await driver.apply();
    const second = another();
    await second.apply();
    expect(second.counts).toMatchObject({ transactions: 0, readings: 1 });

    await nft.apply([
      { do: "add-table", table: FOREIGN },
      { do: "add-chain", table: FOREIGN, chain: { name: "mine" } },
      { do: "add-chain", table: TABLE, chain: { name: "leftover" } },
      { do: "add-set", table: TABLE, set: { name: "leftover-set", keyTypes: ["ipv4_addr"] } },
    ]);
    const third = another();
    await third.apply();
    expect((await readRuleset(kernel)).chains.has("leftover")).toBe(false);
    expect((await readRuleset(kernel)).sets.has("leftover-set")).toBe(false);
    expect((await nft.listChains(FOREIGN)).map(({ name }) => name)).toEqual(["mine"]);
  });

  test("drift is repaired with the difference only", async () => {
    const { batches, driver, kernel, nft, send } = world();
    send();
    await driver.apply();
    const chain = [...(await readRuleset(kernel)).chains.keys()].find((name) => name.includes("walk")) ?? "";
    await nft.apply([{ do: "flush-chain", table: TABLE, chain }]);
    driver.markForResync("a test");
    await driver.apply();
    expect(batches).toHaveLength(3);
    const touched = new Set(batches[2]?.flatMap((command) => (command.do === "add-rule" ? [command.chain] : [])));
    expect([...touched]).toEqual([chain]);
    expect(driver.counts.repairs).toBe(1);
    await nft.apply([{ do: "delete-table", table: TABLE }]);
    driver.markForResync("a test");
    await driver.apply();
    expect((await readRuleset(kernel)).chains.size).toBeGreaterThan(5);
  });

  test("a refusal keeps the kernel's words and loses nothing; after three the table is built anew behind a stand-in", async () => {
    const { batches, driver, entrances, kernel, nft, refuse, renderer, send } = world();
    send();
    await driver.apply();
    const handles = async (): Promise<Set<bigint>> => new Set((await nft.listRules(TABLE)).map(({ handle }) => handle));
    const old = await handles();
    renderer.receive(workload("cali3", "10.0.0.3"));
    refuse(3);
    for (let attempt = 0; attempt < 3; attempt++) {
      const refused: unknown = await driver.apply().catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: "KERNEL", detail: { errnoName: "EOPNOTSUPP" } });
      expect(errorText(refused).match(/command 7 \(add-rule\): Operation not supported/g)).toHaveLength(1);
    }
    expect((await readRuleset(kernel)).sets.size).toBeGreaterThan(0);
    await driver.apply();
    expect(entrances.every((tables) => tables.length > 0)).toBe(true);
    expect(entrances.filter((tables) => tables.length === 2)).not.toEqual([]);
    expect([...(await handles())].filter((handle) => old.has(handle))).toEqual([]);
    expect((await nft.listTables()).map(({ name }) => name)).toEqual([TABLE.name]);
    expect(isEmptyChange(diffRulesets(await readRuleset(kernel), renderer.desired()))).toBe(true);
    const done = batches.length;
    driver.markForResync("a test");
    await driver.apply();
    expect(batches).toHaveLength(done);
    expect(driver.counts.refusals).toBe(3);
  });

  test.each([1, 2, 3, 4, 5, 6, 7])(
    "a rebuild that is refused at step %i leaves rules in force, and what it left goes once the table is right",
    async (step) => {
      const { another, driver, entrances, kernel, nft, refuse, renderer, send } = world();
      send();
      await driver.apply();
      renderer.receive(workload("cali3", "10.0.0.3"));
      refuse(3);
      for (let attempt = 0; attempt < 3; attempt++) await expect(driver.apply()).rejects.toThrow("refused");
      const from = entrances.length;
      refuse(1, step - 1);
      await expect(driver.apply()).rejects.toThrow("refused");
      const second = another();
      await second.apply();
      expect(entrances.slice(from).every((tables) => tables.length > 0)).toBe(true);
      expect((await nft.listTables()).map(({ name }) => name)).toEqual([TABLE.name]);
      expect(isEmptyChange(diffRulesets(await readRuleset(kernel), renderer.desired()))).toBe(true);
    },
  );

  test("a set larger than maxIpsetSize is refused by name, nothing is truncated, and the old rules stay until it fits", async () => {
    const { batches, driver, kernel, renderer, send } = world();
    send();
    await driver.apply();
    renderer.receive({ kind: "config-update", config: { maxIpsetSize: "2" } });
    renderer.receive(ipSet("s1", "10.0.0.1", "10.0.0.2", "10.0.0.3"));
    renderer.receive(workload("cali3", "10.0.0.3"));
    for (let attempt = 0; attempt < 5; attempt++) {
      await expect(driver.apply()).rejects.toMatchObject({
        code: "BAD_INPUT",
        message: expect.stringMatching(/s1, used by .*\/p, has 3 members and maxIpsetSize is 2/) as string,
      });
    }
    expect([batches.length, driver.counts.refusals]).toEqual([2, 0]);
    renderer.receive(ipSet("s1", "10.0.0.3", "10.0.0.2"));
    await driver.apply();
    expect((await readRuleset(kernel)).sets.get("set/s1/v4")?.elements.size).toBe(2);
    expect(batches).toHaveLength(3);
  });

  test("links that cannot be set: the rules are in force by name until they can", async () => {
    const { another, driver, groups, kernel, refuseLinks, renderer, send } = world();
    send();
    refuseLinks(true);
    for (const each of [driver, driver, another()])
      await expect(each.apply()).rejects.toThrow("Operation not permitted");
    expect((await readRuleset(kernel)).sets.get("moving-to-workload")?.elements.size).toBe(2);
    refuseLinks(false);
    await driver.apply();
    expect(groups).toHaveLength(1);
    expect(isEmptyChange(diffRulesets(await readRuleset(kernel), renderer.desired()))).toBe(true);
  });

  test("somebody looks between a message and its transaction: it is written all the same", async () => {
    const { driver, kernel, renderer, send } = world();
    send();
    await driver.apply();
    renderer.receive(workload("cali3", "10.0.0.3"));
    await driver.dump();
    await driver.apply();
    expect(isEmptyChange(diffRulesets(await readRuleset(kernel), renderer.desired()))).toBe(true);
  });

  test("a reading that somebody else's transaction cut across is taken again", async () => {
    const { driver, kernel, nft, send } = world();
    send();
    await driver.apply();
    let cut = false;
    const racing: TableKernel = {
      ...kernel,
      listSets: async (table) => {
        if (!cut) await nft.apply([{ do: "add-chain", table: TABLE, chain: { name: "sudden" } }]);
        cut = true;
        return nft.listSets(table);
      },
    };
    expect([...(await readRuleset(racing)).chains.keys()]).toContain("sudden");
  });
});
