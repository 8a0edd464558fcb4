import { describe, expect, test } from "vitest";
import { play } from "../testing/cni-story.ts";

// The long version: npm run fuzz -- ipam --schedules 100000
describe("CNI, allocator and garbage collection under every interleaving and crash", () => {
  test("a hundred stories end well", { timeout: 120_000 }, async () => {
    for (let seed = 1; seed <= 100; seed++) {
      const { problems, trace } = await play({ seed });
      expect(problems, `seed ${seed}\n${trace.join("\n")}`).toEqual([]);
    }
  });

  test("the same choices are the same story", async () => {
    const first = await play({ seed: 7 });
    const again = await play({ choices: first.choices });
    expect(again.trace).toEqual(first.trace);
    expect(again.choices).toEqual(first.choices);
  });
});
