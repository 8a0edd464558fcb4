/** One file of JavaScript out of a program of ours, as `npm run build` makes them: what is measured is what runs, not a compiler beside it. */
import { join } from "node:path";
import { build } from "esbuild";

const FOLDER = join(import.meta.dirname, "../../../artifacts/bench/programs");

/** Path of the bundle. */
export async function bundle(entry: string, name: string): Promise<string> {
  const outfile = join(FOLDER, `${name}.mjs`);
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    conditions: ["calico-src"],
    external: ["koffi"],
    minifySyntax: true,
    logLevel: "warning",
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
  });
  return outfile;
}
