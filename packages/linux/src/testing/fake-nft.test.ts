import { accept, jump, type NftTable, rule } from "@calico-ts/netlink";
import { describe, expect, test } from "vitest";
import { FakeNft } from "./fake-nft.ts";
import { editRules, expectedEdits, nftScenarios, runScenario } from "./nft-contract.ts";

const table: NftTable = { family: "inet", name: "calico" };

describe("the contract (nft-client.kernel.test.ts runs it against the kernel)", () => {
  test.each(nftScenarios)("$name", async (scenario) => {
    expect(await runScenario(new FakeNft(), scenario)).toEqual(scenario.expected);
  });

  test("rules are edited by handle", async () => {
    expect(await editRules(new FakeNft())).toEqual(expectedEdits);
  });
});

test("jumps that lead back are refused", async () => {
  const nft = new FakeNft();
  await nft.apply([
    { do: "add-table", table },
    { do: "add-chain", table, chain: { name: "a" } },
    { do: "add-chain", table, chain: { name: "b" } },
    { do: "add-rule", table, chain: "a", rule: rule(jump("b")) },
  ]);
  const back = nft.apply([{ do: "add-rule", table, chain: "b", rule: rule(jump("a")) }]);
  await expect(back).rejects.toMatchObject({ code: "KERNEL", detail: { errnoName: "ELOOP" } });
  expect(await nft.listRules(table, "b")).toEqual([]);
});

test("changes are announced with the port id of who made them", async () => {
  const nft = new FakeNft();
  const seen: unknown[] = [];
  using _ = nft.listen((event) => seen.push(event));
  await nft.apply([{ do: "add-table", table }]);
  await nft.applyAs(
    [
      { do: "add-chain", table, chain: { name: "x" } },
      { do: "add-rule", table, chain: "x", rule: rule(accept()) },
    ],
    99,
  );
  await Promise.resolve();
  expect(seen).toEqual([
    { kind: "nftables", generation: 1, tables: [table], portId: nft.portId },
    { kind: "nftables", generation: 2, tables: [table], portId: 99 },
  ]);
});
