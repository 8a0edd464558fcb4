import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { raiseHostLimits, restoreHostLimits } from "./host-limits.ts";

// A folder plays /proc/sys/net/ipv4/neigh/default.
let root: string;
let table: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ct-limits-"));
  table = join(root, "default");
  mkdirSync(table);
  for (const [name, value] of [
    ["gc_thresh1", "128"],
    ["gc_thresh2", "512"],
    ["gc_thresh3", "1024"],
  ] as const)
    writeFileSync(join(table, name), `${value}\n`);
});
afterEach(() => rmSync(root, { recursive: true }));
const now = () =>
  ["gc_thresh1", "gc_thresh2", "gc_thresh3"].map((name) => readFileSync(join(table, name), "utf8").trim());

test("raises what is low, and puts the originals back however many runs raised", () => {
  expect(Object.values(raiseHostLimits(root, [table, join(root, "no-ipv6-here")]).raised)).toEqual([
    "1024",
    "512",
    "128",
  ]);
  expect(now()).toEqual(["16384", "32768", "65536"]);
  expect(raiseHostLimits(root, [table])).toEqual({ raised: {}, failed: [] });
  restoreHostLimits(root);
  expect(now()).toEqual(["128", "512", "1024"]);
  restoreHostLimits(root);
  expect(now()).toEqual(["128", "512", "1024"]);
  expect(existsSync(join(root, ".host-limits.json"))).toBe(false);
});

test("leaves a host that has more alone", () => {
  writeFileSync(join(table, "gc_thresh3"), "1000000\n");
  raiseHostLimits(root, [table]);
  expect(now()).toEqual(["16384", "32768", "1000000"]);
});
