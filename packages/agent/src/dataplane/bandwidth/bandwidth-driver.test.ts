import { FakeKernel } from "@calico-ts/linux/testing";
import type { TokenBucket } from "@calico-ts/netlink";
import { silentLogger } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { beforeEach, describe, expect, test } from "vitest";
import { BandwidthDriver, BUCKET_HANDLE, helperName } from "./bandwidth-driver.ts";
import { bucketOfDevice, tokenBucket } from "./token-bucket.ts";

const POD = "cali0123456789a";
const slow: TokenBucket = { rate: 1000, burst: 2000, limit: 3000 };
const fast: TokenBucket = { rate: 9000, burst: 2000, limit: 3000 };

let kernel: FakeKernel;
let driver: BandwidthDriver;
beforeEach(() => {
  kernel = new FakeKernel();
  driver = new BandwidthDriver({ kernel, log: silentLogger });
});

const addPod = (): number => kernel.links.create({ kind: "veth", name: POD, peer: { name: "p" } })?.index ?? 0;
const rateOf = (name: string): number | undefined =>
  kernel.shaping.list().find(({ link, place }) => place === "root" && link === kernel.links.get(name)?.index)?.bucket
    ?.rate;
const helpers = (): string[] => kernel.links.list({ kind: "ifb" }).map(({ name }) => name);

test("both directions: a bucket on the pod's interface, another on its helper, and what comes from the pod goes through that", () => {
  const link = addPod();
  driver.want(POD, { ingress: slow, egress: fast });
  driver.apply();
  expect(rateOf(POD)).toBe(slow.rate);
  expect(rateOf(helperName(POD))).toBe(fast.rate);
  expect(kernel.shaping.redirectOf(link)).toBe(kernel.links.get(helperName(POD))?.index);
});

test("limits change and go, one direction at a time; nothing of them is left", () => {
  addPod();
  driver.want(POD, { ingress: slow, egress: slow });
  driver.apply();
  driver.want(POD, { ingress: { ...slow, burst: 9999 }, egress: fast });
  driver.apply();
  expect(rateOf(helperName(POD))).toBe(fast.rate);
  driver.want(POD, { ingress: slow });
  driver.apply();
  expect(helpers()).toEqual([]);
  expect(rateOf(POD)).toBe(slow.rate);
  driver.want(POD, undefined);
  driver.apply();
  expect(kernel.shaping.list()).toEqual([]);
});

describe("the interface", () => {
  test("may come after the endpoint, and again after it went", () => {
    driver.want(POD, { egress: slow });
    driver.apply();
    expect(helpers()).toEqual([]);
    const first = addPod();
    driver.touched(POD);
    driver.apply();
    expect(kernel.shaping.redirectOf(first)).toBeDefined();
    kernel.links.delete(POD);
    driver.touched(POD);
    driver.apply();
    expect(helpers()).toEqual([]);
    const second = addPod();
    driver.touched(POD);
    driver.apply();
    expect(kernel.shaping.redirectOf(second)).toBe(kernel.links.get(helperName(POD))?.index);
  });

  test("may be gone before its limits are: the helper goes with them", () => {
    addPod();
    driver.want(POD, { egress: slow });
    driver.apply();
    kernel.links.delete(POD);
    driver.want(POD, undefined);
    driver.apply();
    expect(helpers()).toEqual([]);
  });
});

describe("what was there before", () => {
  test("an earlier process' limits go when nobody wants them, stay when they are wanted", () => {
    const link = addPod();
    driver.want(POD, { ingress: slow, egress: slow });
    driver.apply();
    const helper = kernel.links.get(helperName(POD))?.index;
    const next = new BandwidthDriver({ kernel, log: silentLogger });
    next.want(POD, { egress: slow });
    next.apply();
    expect(kernel.links.get(helperName(POD))?.index).toBe(helper);
    expect(kernel.shaping.redirectOf(link)).toBe(helper);
    expect(rateOf(POD)).toBeUndefined();
    new BandwidthDriver({ kernel, log: silentLogger }).apply();
    expect(helpers()).toEqual([]);
    expect(kernel.shaping.list()).toEqual([]);
  });

  test("what somebody else made stays", () => {
    const link = addPod();
    const other = kernel.links.create({ kind: "other", type: "ifb", name: "bwp123" })?.index ?? 0;
    kernel.shaping.setBucket(link, 1, fast);
    kernel.shaping.redirect(link, other);
    driver.want(POD, undefined);
    driver.apply();
    expect(rateOf(POD)).toBe(fast.rate);
    expect(kernel.shaping.redirectOf(link)).toBe(other);
    expect(helpers()).toEqual(["bwp123"]);
  });

  test("a helper that was taken away comes back", () => {
    addPod();
    driver.want(POD, { egress: slow });
    driver.apply();
    kernel.links.delete(helperName(POD));
    driver.touched(helperName(POD));
    driver.apply();
    expect(helpers()).toEqual([helperName(POD)]);
  });
});

test("a kernel that cannot is named, once until the next refresh, and holds up nothing", () => {
  addPod();
  kernel.shaping.setBucket = () => {
    throw new CalicoError("KERNEL", "limit a link: ENOENT", { detail: { errno: 2, errnoName: "ENOENT" } });
  };
  driver.want(POD, { ingress: slow });
  driver.apply();
  expect([...driver.problems()]).toEqual([[POD, expect.stringContaining("this kernel cannot limit")]]);
  driver.markForResync();
  expect(driver.problems().size).toBe(0);
});

test("bits become bytes, and what a queue may hold follows from rate and burst", () => {
  expect(tokenBucket({ bandwidth: 1e6, burst: 800_000 })).toEqual({ rate: 125_000, burst: 100_000, limit: 103_125 });
  const most = tokenBucket({ bandwidth: 1e15, burst: 34_359_738_360, peakRate: 1.01e15, minBurst: 1500 });
  expect(most).toEqual({
    rate: 125e12,
    burst: 4_294_967_295,
    limit: 4_294_967_295,
    peakRate: 126.25e12,
    minBurst: 1500,
  });
  expect(BUCKET_HANDLE).toBeLessThan(0xffff);
});

test("a peak lets one packet of the device through at once, or what is asked for, and is in the queue's way too", () => {
  const wide = { rate: 1e6, burst: 1e9, limit: 2e9 };
  expect(bucketOfDevice(wide, 1500)).toEqual(wide);
  expect(bucketOfDevice({ ...wide, peakRate: 2e6 }, 1500)).toEqual({
    ...wide,
    peakRate: 2e6,
    minBurst: 1514,
    limit: 51_514,
  });
  expect(bucketOfDevice({ ...wide, limit: 4000, peakRate: 2e6, minBurst: 3000 }, 1500)).toEqual({
    ...wide,
    limit: 4000,
    peakRate: 2e6,
    minBurst: 3000,
  });
});
