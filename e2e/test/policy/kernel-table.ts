/** The calico table of a namespace, read back from the kernel as a ruleset. */
import type { Kernel } from "@calico-ts/linux";
import type { NftRule } from "@calico-ts/netlink";
import type { RenderedSet, Ruleset } from "@calico-ts/policy-compiler";
import { CALICO_TABLE, elementKey } from "@calico-ts/policy-compiler";

export async function readTable(kernel: Kernel): Promise<Ruleset> {
  const chains = new Map(
    (await kernel.nft.listChains(CALICO_TABLE)).map((chain) => [chain.name, { chain, rules: new Array<NftRule>() }]),
  );
  for (const entry of await kernel.nft.listRules(CALICO_TABLE)) chains.get(entry.chain)?.rules.push(entry.rule);
  const sets = new Map<string, RenderedSet>();
  for (const set of await kernel.nft.listSets(CALICO_TABLE)) {
    const elements = await kernel.nft.listElements(CALICO_TABLE, set);
    sets.set(set.name, { set, elements: new Map(elements.map((element) => [elementKey(element), element])) });
  }
  return { table: CALICO_TABLE, chains, sets, groups: new Map() };
}
