/** Token buckets and redirection on the kernel, with `tc` and packets as witnesses. */
import { parseAddress } from "@calico-ts/net";
import type { TokenBucket } from "@calico-ts/netlink";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeKernel } from "./testing/fake-kernel.ts";
import { type ScratchNamespace, scratchNamespace } from "./testing/scratch.ts";

let space: ScratchNamespace;
let link = 0;
let ifb = 0;
beforeEach(() => {
  space = scratchNamespace("tc");
  const { links, addresses } = space.kernel;
  link = links.create({ kind: "veth", name: "v0", up: true, peer: { name: "v1", up: true } })?.index ?? 0;
  ifb = links.create({ kind: "other", type: "ifb", name: "ifb9", up: true })?.index ?? 0;
  addresses.add({ link, address: parseAddress("10.0.0.1"), prefixLength: 24 });
});
afterEach(() => space[Symbol.dispose]());

const bucket: TokenBucket = { rate: 125_000, burst: 20_000, limit: 30_000 };
const tc = (device: string): string => space.run("tc", "-s", "qdisc", "show", "dev", device);

describe("token buckets", () => {
  test.each<[string, TokenBucket, RegExp]>([
    [
      "rate, burst and limit",
      bucket,
      /tbf ca11: root .*rate 1Mbit burst 2\d{4}b .*limit 30000b|rate 1Mbit burst 2\d{4}b/,
    ],
    ["a peak rate", { ...bucket, peakRate: 250_000, minBurst: 1600 }, /rate 1Mbit .*peakrate 2Mbit/],
    ["more than 32 bits of bytes a second", { rate: 8e9, burst: 4e9, limit: 4e9 }, /rate 64Gbit/],
  ])("%s", (_what, asked, shown) => {
    const { shaping } = space.kernel;
    shaping.setBucket(link, 0xca11, asked);
    expect(tc("v0")).toMatch(shown);
    const { rate, limit, peakRate } = asked;
    expect(shaping.list().find((one) => one.link === link && one.place === "root")).toEqual({
      link,
      handle: 0xca11,
      place: "root",
      kind: "tbf",
      bucket: { rate, limit, ...(peakRate !== undefined && { peakRate }) },
    });
  });

  test("are changed in place, and gone when they are removed", () => {
    const { shaping } = space.kernel;
    shaping.setBucket(link, 0xca11, bucket);
    shaping.setBucket(link, 0xca11, { ...bucket, rate: 250_000 });
    expect(tc("v0")).toContain("rate 2Mbit");
    expect(shaping.remove(link, "root")).toBe(true);
    expect(shaping.remove(link, "root")).toBe(false);
    expect(tc("v0")).not.toContain("tbf");
    expect(() => shaping.setBucket(link, 0xca11, { ...bucket, burst: 0 })).toThrow(/EINVAL/);
    expect(() => shaping.setBucket(9999, 0xca11, bucket)).toThrow(/ENODEV/);
  });
});

test("what enters a link goes through another, which may hold it back", () => {
  const { shaping } = space.kernel;
  expect(shaping.redirectOf(link)).toBeUndefined();
  shaping.redirect(link, ifb);
  shaping.redirect(link, ifb);
  expect(shaping.redirectOf(link)).toBe(ifb);
  shaping.setBucket(ifb, 0xca11, bucket);
  // Something that arrives on v0: whatever its peer sends, here an ARP question.
  space.run("sh", "-c", "ip address add 10.0.0.2/24 dev v1; ping -n -q -c 1 -W 0.2 -I v1 10.0.0.99 || true");
  expect(Number(/Sent \d+ bytes (\d+) pkt/.exec(tc("ifb9"))?.[1])).toBeGreaterThan(0);
  expect(shaping.remove(link, "ingress")).toBe(true);
  expect(shaping.remove(link, "ingress")).toBe(false);
  expect(shaping.redirectOf(link)).toBeUndefined();
});

test("the fake says the same", () => {
  using kernel = new FakeKernel();
  const made = kernel.links.create({ kind: "veth", name: "v0", peer: { name: "v1" } })?.index ?? 0;
  const other = kernel.links.create({ kind: "other", type: "ifb", name: "ifb9" })?.index ?? 0;
  for (const [{ shaping }, one, target] of [
    [space.kernel, link, ifb],
    [kernel, made, other],
  ] as const) {
    shaping.setBucket(one, 7, bucket);
    shaping.redirect(one, target);
    expect(
      shaping
        .list()
        .filter((qdisc) => qdisc.link === one)
        .toSorted((a, b) => a.handle - b.handle),
    ).toEqual([
      { link: one, handle: 7, place: "root", kind: "tbf", bucket: { rate: bucket.rate, limit: bucket.limit } },
      { link: one, handle: 0xffff, place: "ingress", kind: "ingress" },
    ]);
    expect(() => shaping.setBucket(one, 7, { ...bucket, burst: 0 })).toThrow(/EINVAL/);
    expect(() => shaping.redirect(9999, target)).toThrow(/ENODEV/);
  }
});
