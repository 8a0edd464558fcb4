/** The programs as `npm run build` leaves them. */
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { command } from "./simulator.ts";

const root = join(import.meta.dirname, "../..");
const bundles = globSync("{packages/*,e2e}/dist/bin/*-program.mjs", { cwd: root });
const programs = bundles.map((path) => path.replace(/-program\.mjs$/, ".mjs"));
/** A module that runs before the program. */
const PRETEND_NODE_20 = `data:text/javascript,Object.defineProperty(process.versions,"node",{value:"20.20.2"});Object.defineProperty(process,"version",{value:"v20.20.2"});`;

test("there are programs", () => {
  expect(programs.map((path) => basename(path))).toContain("calicoctl.mjs");
});

test.each(programs)(
  "%s says in one line which Node it needs, and does nothing else, under an old one",
  async (path) => {
    const { code, stdout, stderr } = await command(process.execPath, ["--import", PRETEND_NODE_20, join(root, path)]);
    const name = basename(path, ".mjs");
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout: "",
      stderr: `${name} needs Node 24 or newer; this is v20.20.2 (${process.execPath})\n`,
    });
  },
);
