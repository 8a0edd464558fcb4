import { containsPrefix, parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { SetMembers } from "./set-members.ts";

test("two sources of one address: it is there until both are gone", () => {
  const set = new SetMembers("prefixes");
  set.add("10.0.0.1/32");
  set.add("10.0.0.1/32");
  expect(set.changes()).toEqual({ added: ["10.0.0.1/32"], removed: [] });
  set.remove("10.0.0.1/32");
  expect(set.changes()).toEqual({ added: [], removed: [] });
  set.remove("10.0.0.1/32");
  expect(set.changes()).toEqual({ added: [], removed: ["10.0.0.1/32"] });
});

test("a wider prefix holds back what is inside it, and gives it back", () => {
  const set = new SetMembers("prefixes");
  for (const member of ["10.0.0.1/32", "10.0.0.0/24", "10.0.0.0/16", "10.1.0.0/16"]) set.add(member);
  expect([...set.members].toSorted()).toEqual(["10.0.0.0/16", "10.1.0.0/16"]);
  set.changes();
  set.remove("10.0.0.0/16");
  expect(set.changes()).toEqual({ added: ["10.0.0.0/24"], removed: ["10.0.0.0/16"] });
  set.remove("10.0.0.0/24");
  expect(set.changes()).toEqual({ added: ["10.0.0.1/32"], removed: ["10.0.0.0/24"] });
});

test("removing what is not there changes nothing", () => {
  const set = new SetMembers("opaque");
  set.remove("10.0.0.1,tcp:80");
  expect(set.changes()).toEqual({ added: [], removed: [] });
});

const prefix = fc.constantFrom(
  "0.0.0.0/0",
  "10.0.0.0/8",
  "10.0.0.0/24",
  "10.0.0.0/25",
  "10.0.0.128/25",
  "10.0.0.1/32",
  "10.0.0.129/32",
  "::/0",
  "fd00::/64",
  "fd00::1/128",
);

test("what shows is what no other member contains, and changes add up", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ member: prefix, add: fc.boolean(), look: fc.boolean() }), { maxLength: 40 }),
      (steps) => {
        const set = new SetMembers("prefixes");
        const counts = new Map<string, number>();
        const seen = new Set<string>();
        const look = (): void => {
          const { added, removed } = set.changes();
          for (const member of added) expect(seen.has(member)).toBe(false);
          for (const member of removed) expect(seen.delete(member)).toBe(true);
          for (const member of added) seen.add(member);
        };
        for (const { member, add, look: now } of steps) {
          const count = counts.get(member) ?? 0;
          counts.set(member, add ? count + 1 : Math.max(0, count - 1));
          set[add ? "add" : "remove"](member);
          if (now) look();
        }
        look();
        const present = [...counts].flatMap(([member, count]) => (count > 0 ? [member] : []));
        const wanted = present.filter(
          (member) =>
            !present.some((other) => other !== member && containsPrefix(parsePrefix(other), parsePrefix(member))),
        );
        expect([...seen].toSorted()).toEqual(wanted.toSorted());
        expect([...set.members].toSorted()).toEqual(wanted.toSorted());
      },
    ),
    { numRuns: 500 },
  );
});
