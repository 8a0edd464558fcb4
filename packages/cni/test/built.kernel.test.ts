/** The executable as `npm run build` makes it. */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const EXECUTABLE = join(import.meta.dirname, "../dist/bin/calico");

test("files in the folder a container runtime is in are not its configuration", () => {
  const folder = mkdtempSync(join(tmpdir(), "cni-built-"));
  try {
    writeFileSync(join(folder, ".env"), "CNI_COMMAND=VERSION\n");
    writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(folder, "preload.ts"), 'require("node:fs").writeFileSync("loaded", "");\n');
    const { status, stdout } = spawnSync(EXECUTABLE, { cwd: folder, input: "{}", env: {}, encoding: "utf8" });
    expect({ status, answer: JSON.parse(stdout) }).toMatchObject({ status: 1, answer: { code: 4 } });
    expect(existsSync(join(folder, "loaded"))).toBe(false);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a result that nobody takes is a failure, told in one line", () => {
  const full = openSync("/dev/full", "w");
  try {
    const env = { CNI_COMMAND: "VERSION" };
    const { status, stderr } = spawnSync(EXECUTABLE, {
      env,
      input: "{}",
      stdio: ["pipe", full, "pipe"],
      encoding: "utf8",
    });
    expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringMatching(/^calico: .*ENOSPC.*\n$/) });
  } finally {
    closeSync(full);
  }
});
