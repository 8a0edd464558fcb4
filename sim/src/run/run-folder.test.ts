import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  claimRun,
  listRuns,
  readRecord,
  removeRunFolder,
  runPaths,
  runState,
  selfId,
  writeRecord,
} from "./run-folder.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ct-runs-"));
  process.env["CALICO_SIM_STATE"] = join(root, "state");
});
afterEach(() => {
  delete process.env["CALICO_SIM_STATE"];
  rmSync(root, { recursive: true });
});
const facts = { startedAt: "2026-01-01T00:00:00Z", topology: "default", manifests: [] };

test("a name can be claimed once, and leaves nothing half-made", () => {
  expect(runState("a")).toBe("absent");
  claimRun("a", facts);
  expect(runState("a")).toBe("starting");
  expect(() => claimRun("a", facts)).toThrow(expect.objectContaining({ code: "ALREADY_EXISTS" }));
  expect(readdirSync(join(root, "state"))).toEqual(["a"]);
  expect(listRuns()).toEqual(["a"]);
});

test("a run is dead when its process is gone, even if the pid lives again", () => {
  const record = claimRun("a", facts);
  writeRecord({ ...record, state: "running" });
  expect(runState("a")).toBe("running");
  writeRecord({ ...record, owner: { pid: process.pid, startTicks: selfId().startTicks - 1 } });
  expect(runState("a")).toBe("dead");
});

test("a folder without a readable record is a dead run's", () => {
  claimRun("a", facts);
  rmSync(runPaths("a").record);
  expect(readRecord("a")).toBeUndefined();
  expect(runState("a")).toBe("dead");
});

test("the last run takes the state root along", () => {
  claimRun("a", facts);
  claimRun("b", facts);
  removeRunFolder("a");
  expect(listRuns()).toEqual(["b"]);
  removeRunFolder("b");
  removeRunFolder("b");
  expect(existsSync(join(root, "state"))).toBe(false);
});
