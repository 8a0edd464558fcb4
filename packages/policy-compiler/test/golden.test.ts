/**
 * Rendered tables of named states as files, to be read as differences in a review. Regenerate with `--update` after looking
 * at what changed. Made by this renderer; the kernel test of the same states shows that a kernel takes them as they are.
 */
import { expect, test } from "vitest";
import { createCompiler, NftPolicyRenderer } from "../src/index.ts";
import { rulesetText } from "../src/testing/nft-text.ts";
import { STATES } from "../src/testing/states.ts";

test.each(Object.keys(STATES))("%s", async (name) => {
  const renderer = new NftPolicyRenderer();
  renderer.setHostInterfaces(new Map([["eth0", ["192.168.0.1"]]]));
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of Object.values(STATES[name] ?? {})) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const file = `golden/${name.replaceAll(/[^a-z0-9]+/g, "-")}.nft.txt`;
  await expect(rulesetText(renderer.desired())).toMatchFileSnapshot(file);
});
