/** The executable as `npm run build` makes it. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
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
