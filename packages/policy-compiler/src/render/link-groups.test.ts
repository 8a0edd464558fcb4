import { describe, expect, test } from "vitest";
import { GROUP_BASE } from "../ruleset/walk-groups.ts";
import type { GroupedLink, GroupRepair } from "./link-groups.ts";
import { LinkGroups } from "./link-groups.ts";

const OURS = GROUP_BASE + 1;
const OTHER = GROUP_BASE + 2;

/** Links by name, as a kernel has them: refuses to set what is not there. */
function world(...links: readonly GroupedLink[]) {
  const byName = new Map(links.map((link) => [link.name, link]));
  const written: string[] = [];
  const repairs: GroupRepair[] = [];
  const broken = new Set<string>();
  const linkGroups = new LinkGroups({
    kernel: {
      list: () => byName.values(),
      get: (name) => byName.get(name),
      setGroup: (index, group) => {
        const link = [...byName.values()].find((each) => each.index === index);
        if (link === undefined || broken.has(link.name)) throw new Error(`refused: link ${index}`);
        byName.set(link.name, { ...link, group });
        written.push(`${link.name} ${group}`);
      },
    },
    isWorkload: (name) => name.startsWith("cali"),
    onRepair: (repair) => repairs.push(repair),
  });
  const put = (link: GroupedLink): boolean => {
    byName.set(link.name, link);
    return linkGroups.noted(link);
  };
  return { broken, byName, linkGroups, put, repairs, written };
}

describe("groups of links", () => {
  test("only what differs is written, and once", () => {
    const { linkGroups, written } = world(
      { name: "cali1", index: 1, group: 0 },
      { name: "cali2", index: 2, group: OURS },
      { name: "eth0", index: 3, group: OURS },
    );
    const groups = new Map([
      ["cali1", OURS],
      ["cali2", OURS],
      ["eth0", OTHER],
      ["cali9", OURS],
    ]);
    linkGroups.apply(groups);
    linkGroups.apply(groups);
    linkGroups.apply(new Map(groups));
    expect(written).toEqual([`cali1 ${OURS}`]);
    expect([linkGroups.isSet("cali1"), linkGroups.isSet("cali9"), linkGroups.isSet("eth0")]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test("a link that comes, a link that comes again, a link that is set back", () => {
    const { linkGroups, put, repairs, written } = world();
    const groups = new Map([["cali1", OURS]]);
    linkGroups.apply(groups);
    expect(put({ name: "cali1", index: 5, group: 0 })).toBe(true);
    linkGroups.apply(groups);
    expect(put({ name: "cali1", index: 5, group: OURS }), "our own change, told").toBe(false);
    expect(put({ name: "cali1", index: 6, group: 0 }), "another link of that name").toBe(true);
    linkGroups.apply(groups);
    expect(repairs).toEqual([]);
    expect(put({ name: "cali1", index: 6, group: 3 })).toBe(true);
    linkGroups.apply(groups);
    expect(repairs).toEqual([{ name: "cali1", found: 3, wanted: OURS }]);
    expect(linkGroups.counts).toEqual({ changes: 3, repairs: 1 });
    expect(written).toEqual(Array.from({ length: 3 }, () => `cali1 ${OURS}`));
  });

  test("without an endpoint a number of ours is taken away, any other stays", () => {
    const { byName, linkGroups } = world(
      { name: "cali1", index: 1, group: OTHER },
      { name: "cali2", index: 2, group: 12 },
      { name: "cali3", index: 3, group: 0 },
    );
    linkGroups.apply(new Map([["cali3", OURS]]));
    linkGroups.apply(new Map());
    expect(Array.from(byName.values(), ({ group }) => group)).toEqual([0, 12, 0]);
  });

  test("one that is refused holds up no other, and is tried again; one that is gone is no failure", () => {
    const { broken, byName, linkGroups, put, written } = world(
      { name: "cali1", index: 1, group: 0 },
      { name: "cali2", index: 2, group: 0 },
    );
    const groups = new Map([
      ["cali1", OURS],
      ["cali2", OURS],
    ]);
    broken.add("cali1");
    expect(() => linkGroups.apply(groups)).toThrow("refused: link 1");
    expect(written).toEqual([`cali2 ${OURS}`]);
    expect(() => linkGroups.apply(groups)).toThrow("refused: link 1");
    broken.clear();
    linkGroups.apply(groups);
    expect(written).toEqual([`cali2 ${OURS}`, `cali1 ${OURS}`]);
    put({ name: "cali1", index: 1, group: 0 });
    byName.delete("cali1");
    linkGroups.apply(groups);
    linkGroups.noted({ name: "cali1", index: 1, group: 0 }, true);
    expect(linkGroups.isSet("cali1")).toBe(false);
  });

  test("a resync finds what no notification told", () => {
    const { byName, linkGroups } = world({ name: "cali1", index: 1, group: 0 });
    const groups = new Map([["cali1", OURS]]);
    linkGroups.apply(groups);
    byName.set("cali1", { name: "cali1", index: 1, group: 4 });
    linkGroups.apply(groups);
    expect(byName.get("cali1")?.group).toBe(4);
    linkGroups.markForResync();
    linkGroups.apply(groups);
    expect(byName.get("cali1")?.group).toBe(OURS);
    expect(linkGroups.dump()).toEqual({
      desired: { cali1: OURS },
      difference: {},
      counts: { changes: 2, repairs: 1 },
    });
  });
});
