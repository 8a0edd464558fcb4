/**
 * Builds the programs (docs/architecture.md, "Programs") into each package's dist/bin: ES module bundles by esbuild for what runs on
 * Node (each with a launcher that says which Node it needs), one executable by Bun for the CNI plugins. `--if-stale` does nothing when no source changed since the last build.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  linkSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { build, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..");

interface Program {
  readonly entry: string;
  readonly output: string;
  /** What it imports when it needs it is a file of its own beside it, and costs nothing until then. */
  readonly split?: true;
}

const nodePrograms: readonly Program[] = [
  { entry: "packages/node/src/main.ts", output: "packages/node/dist/bin/calico-node.mjs", split: true },
  { entry: "packages/agent/src/main.ts", output: "packages/agent/dist/bin/calico-agent.mjs", split: true },
  { entry: "packages/bgp-daemon/src/main.ts", output: "packages/bgp-daemon/dist/bin/calico-bgp.mjs", split: true },
  {
    entry: "packages/controllers/src/main.ts",
    output: "packages/controllers/dist/bin/calico-kube-controllers.mjs",
    split: true,
  },
  { entry: "packages/controllers/src/check-status.ts", output: "packages/controllers/dist/bin/check-status.mjs" },
  { entry: "packages/cni/src/install/main.ts", output: "packages/cni/dist/bin/install-cni.mjs" },
  { entry: "packages/cli/src/main.ts", output: "packages/cli/dist/bin/calicoctl.mjs", split: true },
  { entry: "e2e/src/calico-sim.ts", output: "e2e/dist/bin/calico-sim.mjs", split: true },
  { entry: "e2e/src/calico-speaker.ts", output: "e2e/dist/bin/calico-speaker.mjs" },
];
const NODE_MAJOR = 24;
const cniProgram: Program = { entry: "packages/cni/src/main.ts", output: "packages/cni/dist/bin/calico" };

async function main(): Promise<void> {
  const stamp = join(root, "node_modules/.calico-build");
  const fingerprint = sourceFingerprint();
  const outputs = [...nodePrograms, cniProgram].map((program) => join(root, program.output));
  const upToDate = existsSync(stamp) && readFileSync(stamp, "utf8") === fingerprint && outputs.every(existsSync);
  if (process.argv.includes("--if-stale") && upToDate) return;
  process.stderr.write("==> building programs\n");
  await Promise.all(nodePrograms.map(bundle));
  compileCni();
  writeFileSync(stamp, fingerprint);
}

async function bundle(program: Program): Promise<void> {
  const name = basename(program.output, ".mjs");
  const { metafile } = await build({
    entryPoints: { [`${name}-program`]: join(root, program.entry) },
    outdir: join(root, dirname(program.output)),
    outExtension: { ".js": ".mjs" },
    splitting: program.split === true,
    chunkNames: `${name}-[hash]`,
    metafile: true,
    bundle: true,
    platform: "node",
    target: `node${NODE_MAJOR}`,
    format: "esm",
    conditions: ["calico-src"],
    external: ["koffi"],
    minifySyntax: true,
    sourcemap: "linked",
    logLevel: "warning",
    plugins: [httpWithoutUndici],
    // CommonJS dependencies expect these; an ES module has none.
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url); const __filename = import.meta.filename; const __dirname = import.meta.dirname;',
    },
  });
  const made = new Set(Object.keys(metafile.outputs).map((path) => resolve(path)));
  for (const part of globSync(`${name}-*.mjs{,.map}`, { cwd: join(root, dirname(program.output)) })) {
    const path = join(root, dirname(program.output), part);
    if (!made.has(path)) rmSync(path);
  }
  writeFileSync(join(root, program.output), launcher(name));
}

/**
 * What is started: it looks at Node's version before Node reads the program, in which an old one finds a syntax error or a function that
 * is not there, and says that. So nothing here is newer than `import()`.
 */
const launcher = (name: string): string => `#!/usr/bin/env node
var major = Number(process.versions.node.split(".")[0]);
if (major < ${NODE_MAJOR}) {
  console.error("${name} needs Node ${NODE_MAJOR} or newer; this is " + process.version + " (" + process.execPath + ")");
  process.exitCode = 1;
} else {
  import("./${name}-program.mjs");
}
`;

/**
 * An ES module that imports node:http makes Node read every export of it, and one is a getter that loads all of undici (WebSocket):
 * 35 ms and 10 MB for each process. Taken as a CommonJS value, exports are read when they are used.
 */
const httpWithoutUndici: Plugin = {
  name: "http-without-undici",
  setup(bundler) {
    bundler.onResolve({ filter: /^(node:)?http$/ }, () => ({
      path: "node:http",
      namespace: "builtin",
      sideEffects: false,
    }));
    bundler.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

function compileCni(): void {
  const output = join(root, cniProgram.output);
  mkdirSync(dirname(output), { recursive: true });
  const partial = `${output}.partial`;
  const options = [
    "--compile",
    "--minify",
    "--conditions=calico-src",
    "--format=esm",
    "--bytecode", // parsed here, not at each pod's start: 1.6 of 6.8 ms
    // It is run as root in whatever folder a container runtime is in: files that happen to lie there are not its configuration.
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
  ];
  const files = [join(root, cniProgram.entry), "--outfile", partial];
  const stdio = ["ignore", "ignore", "inherit"] as const;
  execFileSync(bunExecutable(), ["build", ...options, ...files], { stdio: [...stdio], cwd: dirname(output) });
  chmodSync(partial, 0o755);
  rmSync(`${output}-ipam.partial`, { force: true });
  linkSync(partial, `${output}-ipam.partial`);
  renameSync(`${output}-ipam.partial`, `${output}-ipam`);
  renameSync(partial, output);
}

/** Where install scripts are off, Bun's launcher is a text file and the platform package carries the binary. */
function bunExecutable(): string {
  const platform = process.arch === "arm64" ? "bun-linux-aarch64" : "bun-linux-x64";
  const candidates = [`@oven/${platform}/bin/bun`, "bun/bin/bun.exe"].map((path) => join(root, "node_modules", path));
  const binary = candidates.find((path) => existsSync(path) && statSync(path).size > 1_000_000);
  if (binary === undefined) throw new Error(`no Bun binary for ${process.arch} in node_modules: run npm ci`);
  return binary;
}

function sourceFingerprint(): string {
  const hash = createHash("sha256");
  const files = globSync(
    ["packages/*/src/**/*.ts", "sim/src/**/*.ts", "e2e/src/**/*.ts", "scripts/build.ts", "package-lock.json"],
    {
      cwd: root,
    },
  );
  for (const file of files.toSorted()) {
    if (file.endsWith(".test.ts")) continue;
    hash
      .update(file)
      .update("\0")
      .update(readFileSync(join(root, file)));
  }
  return hash.digest("hex");
}

await main();
