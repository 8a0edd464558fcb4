/** Everything the rig ever found, again: `e2e/regression`. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseCase, replay, Rig } from "../src/index.ts";

const FOLDER = join(import.meta.dirname, "../../../e2e/regression");
const files = readdirSync(FOLDER).filter((name) => name.endsWith(".yaml"));

let rig: Rig;
beforeAll(() => {
  rig = new Rig({ prefix: `ct-${process.pid}-old` });
});
afterAll(() => rig[Symbol.dispose]());

test.each(files)("%s", async (file) => {
  const source = parseCase(readFileSync(join(FOLDER, file), "utf8"), file);
  expect(await replay(rig, source)).toEqual([]);
});
