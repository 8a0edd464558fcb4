import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAddress } from "@calico-ts/net";
import { afterAll, describe, expect, test } from "vitest";
import { captureBundle } from "./failure-bundle.ts";
import { bundleIfFailed, suiteNamespace, useNamespace } from "./vitest.ts";

const dir = mkdtempSync(join(tmpdir(), "ct-bundle-"));
afterAll(() => rmSync(dir, { recursive: true }));
const namespace = suiteNamespace("bundle");

describe("failure bundles", () => {
  test("hold what the witnesses say, and the logs", async () => {
    const { kernel } = namespace;
    kernel.addresses.add({ link: 1, address: parseAddress("10.99.0.1"), prefixLength: 32 });
    await kernel.nft.apply([{ do: "add-table", table: { family: "inet", name: "evidence" } }]);
    const log = join(dir, "agent.log");
    writeFileSync(log, "last words\n");
    const folder = captureBundle({
      netns: [namespace.name, namespace.path],
      files: [log, "/no/such/file"],
      dir,
      name: "a test: with / odd name",
      reason: "it failed",
    });
    expect(folder).toBe(join(dir, "a-test-with-odd-name"));
    const inside = join(folder, namespace.name);
    expect(readdirSync(inside).toSorted()).toEqual([
      "addresses.txt",
      "conntrack-v6.txt",
      "conntrack.txt",
      "counters.txt",
      "fdb.txt",
      "links.txt",
      "neighbours.txt",
      "nft.txt",
      "routes-v6.txt",
      "routes.txt",
      "rules-v6.txt",
      "rules.txt",
      "sockets.txt",
    ]);
    const read = (file: string): string => readFileSync(join(inside, file), "utf8");
    expect(read("addresses.txt")).toContain("10.99.0.1/32");
    expect(read("routes.txt")).toContain("local 10.99.0.1");
    expect(read("nft.txt")).toContain("table inet evidence");
    expect(readFileSync(join(folder, "0-agent.log"), "utf8")).toBe("last words\n");
    const summary = readFileSync(join(folder, "summary.txt"), "utf8");
    expect(summary).toContain("failed: it failed");
    expect(summary).toContain("not captured: /no/such/file");
  });

  test("are made of what is there: a namespace that is gone is noted", () => {
    const folder = captureBundle({ netns: ["ct-not-there"], dir, name: "gone" });
    expect(readFileSync(join(folder, "summary.txt"), "utf8")).toContain(
      "not captured: ct-not-there: there is no network namespace",
    );
  });

  test("only for tests that failed", () => {
    const sources = () => ({ netns: [], dir });
    expect(bundleIfFailed({ name: "fine", result: { state: "pass" } }, sources)).toBeUndefined();
    const task = { name: "broken", result: { state: "fail", errors: [{ message: "no route" }] } };
    const folder = bundleIfFailed(task, sources) ?? "";
    expect(readFileSync(join(folder, "summary.txt"), "utf8")).toContain("failed: no route");
  });
});

let path = "";
test("a test's namespace is there while it runs", () => {
  path = useNamespace("use").path;
  expect(existsSync(path)).toBe(true);
});

test("and gone afterwards", () => {
  expect(path).not.toBe("");
  expect(existsSync(path)).toBe(false);
});
