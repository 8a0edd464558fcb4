import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { PodView } from "../cluster/cluster-port.ts";
import { programLastWords } from "./last-words.ts";

const logs = mkdtempSync(join(tmpdir(), "ct-words-"));
afterAll(() => rmSync(logs, { recursive: true }));

const pod = (name: string, change: Partial<PodView>): PodView => ({
  namespace: "kube-system",
  name,
  uid: name,
  labels: {},
  node: "n1",
  netns: undefined,
  hostNetwork: true,
  ips: [],
  phase: "Running",
  ready: false,
  terminating: false,
  ports: [],
  owners: [],
  stub: false,
  ...change,
});

test("the last lines of programs that are not ready, and of no others", () => {
  mkdirSync(join(logs, "n1"));
  writeFileSync(
    join(logs, "n1", "kube-system_bad_main.log"),
    Array.from({ length: 20 }, (_, n) => `line ${n}\n`).join(""),
  );
  writeFileSync(join(logs, "n1", "kube-system_good_main.log"), "fine\n");
  writeFileSync(join(logs, "n1", "kube-system_empty_main.log"), "");
  const words = programLastWords(
    [
      pod("bad", {}),
      pod("good", { ready: true }),
      pod("empty", {}),
      pod("stub", { stub: true }),
      pod("lost", { node: "n9" }),
    ],
    logs,
  );
  expect(words[0]).toBe("last lines of n1/kube-system_bad_main.log:");
  expect(words.slice(1)).toEqual(Array.from({ length: 8 }, (_, n) => `  line ${n + 12}`));
});
