/** The simulator's command line with the product plugged in: what `npm run sim` runs. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { main } from "@calico-ts/sim";
import { nodeTrouble, PRODUCT_PROCESSES } from "./product-processes.ts";
import { nodePrograms, requireBuilt, SPEAKER_PROGRAM } from "./programs.ts";

/** The checkout this file is in, as a source or as a bundle. */
function checkout(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, "turbo.json")) || !existsSync(join(folder, "manifests"))) {
    const parent = dirname(folder);
    if (parent === folder) return import.meta.dirname;
    folder = parent;
  }
  return folder;
}

const root = checkout();
process.exitCode = await main(process.argv.slice(2), {
  programs: nodePrograms(root),
  manifests: [join(root, "manifests/calico-vxlan.yaml")],
  bgpManifests: [join(root, "manifests/calico.yaml")],
  speaker: [process.execPath, join(root, SPEAKER_PROGRAM)],
  processes: PRODUCT_PROCESSES,
  nodeTrouble,
  check: () => requireBuilt(root),
  demo: { manifests: join(root, "sim/demo"), expectations: join(root, "sim/demo/expectations.yaml") },
  command: "npm run sim --",
});
