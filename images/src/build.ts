/**
 * `npm run images`: builds the images of recipes.ts into artifacts/images without a Docker engine or a registry.
 *
 *   artifacts/images/<image>/{runtime,programs}/     what the Dockerfiles copy
 *   artifacts/images/calico-ts-<image>.tar           docker load, podman load, ctr images import
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CalicoError, errorText } from "@calico-ts/std";
import { type Archive, type Layer, writeImageArchive, writeLayer } from "./archive.ts";
import { debianBase } from "./base.ts";
import { type Layout, layOut } from "./layout.ts";
import { IMAGE_NAMES, type ImageName, RECIPES } from "./recipes.ts";

export interface BuildOptions {
  readonly checkout: string;
  readonly output: string;
  readonly suite: string;
  readonly refreshBase: boolean;
  /** Seconds since 1970; by convention SOURCE_DATE_EPOCH. */
  readonly createdEpoch: number;
}

export interface BuiltImage extends Archive {
  readonly name: ImageName;
  readonly layers: readonly Layer[];
  readonly layout: Layout;
  readonly base: string;
}

const ARCHITECTURES = { x64: "amd64", arm64: "arm64" } as const;

const HELP = `npm run images: builds the container images ${IMAGE_NAMES.map((name) => RECIPES[name].reference).join(" and ")} into artifacts/images.

  npm run images -- --layout-only     only the folders that the Dockerfiles copy
  npm run images -- --refresh-base    fetch Debian's packages anew (security updates)
  npm run images -- --suite trixie    base on another Debian release; default: this machine's, or bookworm

SOURCE_DATE_EPOCH sets the images' creation time.
`;

/** The machine's processor: node-linux, koffi and Bun's compiler come from npm for the machine they are installed on. */
function processor(): keyof typeof ARCHITECTURES {
  if (process.arch === "x64" || process.arch === "arm64") return process.arch;
  throw new CalicoError("UNSUPPORTED", `images are built on x64 and arm64 for the same; this is ${process.arch}`);
}

export function layOutAll(checkout: string, output: string): ReadonlyMap<ImageName, Layout> {
  execFileSync(process.execPath, [join(checkout, "scripts/build.ts"), "--if-stale"], {
    stdio: ["ignore", "ignore", "inherit"],
    cwd: checkout,
  });
  return new Map(
    IMAGE_NAMES.map((name) => [name, layOut(RECIPES[name], checkout, join(output, name), processor())] as const),
  );
}

/** @throws CalicoError what debianBase and layOut throw */
export async function buildImages(options: BuildOptions): Promise<BuiltImage[]> {
  const { checkout, output, suite } = options;
  const architecture = ARCHITECTURES[processor()];
  const layouts = layOutAll(checkout, output);
  const cacheFolder = join(checkout, "node_modules/.cache/calico-images");
  const base = debianBase({ suite, architecture, cacheFolder, refresh: options.refreshBase });
  mkdirSync(output, { recursive: true });
  const scratch = mkdtempSync(join(output, ".layers-"));
  const layer = (folder: string, name: string): Promise<Layer> =>
    writeLayer(folder, join(scratch, `${name.replaceAll(/\W/g, "-")}.tar`), `calico-ts: ${name}`);
  try {
    const shared = [await layer(base, `Debian ${suite}`)];
    const built: BuiltImage[] = [];
    for (const [name, layout] of layouts) {
      if (shared.length === 1) shared.push(await layer(layout.runtime, `Node ${process.versions.node}`));
      const layers = [...shared, await layer(layout.programs, `programs of ${name}`)];
      const recipe = RECIPES[name];
      const created = new Date(options.createdEpoch * 1000).toISOString();
      const archive = await writeImageArchive(
        { ...recipe, architecture, created },
        layers,
        join(output, `calico-ts-${name}.tar`),
      );
      built.push({ ...archive, name, layers, layout, base });
    }
    return built;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Of an os-release file, Debian only: elsewhere our programs are tested less than on Debian 12. */
export function suiteOf(osRelease: string): string {
  const field = (name: string): string | undefined => osRelease.match(new RegExp(`^${name}="?([^"\\n]*)"?$`, "m"))?.[1];
  return field("ID") === "debian" ? (field("VERSION_CODENAME") ?? "bookworm") : "bookworm";
}

export function machineSuite(): string {
  let osRelease = "";
  try {
    osRelease = readFileSync("/etc/os-release", "utf8");
  } catch {
    // no such file: not a Debian machine
  }
  return suiteOf(osRelease);
}

function readEpoch(text: string | undefined): number {
  if (text === undefined || text === "") return 0;
  if (!/^\d{1,11}$/.test(text)) {
    throw new CalicoError("BAD_INPUT", `SOURCE_DATE_EPOCH must be seconds since 1970, not "${text}"`);
  }
  return Number(text);
}

async function main(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean", short: "h" },
      "layout-only": { type: "boolean" },
      "refresh-base": { type: "boolean" },
      suite: { type: "string" },
    },
  });
  if (values.help === true) return void process.stdout.write(HELP);
  const checkout = join(import.meta.dirname, "../..");
  const output = join(checkout, "artifacts/images");
  if (values["layout-only"] === true) {
    for (const [name] of layOutAll(checkout, output)) {
      const { reference } = RECIPES[name];
      process.stdout.write(`docker build -t ${reference} -f images/${name}/Dockerfile artifacts/images/${name}\n`);
    }
    return;
  }
  const images = await buildImages({
    checkout,
    output,
    suite: values.suite ?? machineSuite(),
    refreshBase: values["refresh-base"] ?? false,
    createdEpoch: readEpoch(process.env["SOURCE_DATE_EPOCH"]),
  });
  for (const { name, path, size, imageId } of images) {
    const megabytes = (size / 1e6).toFixed(0);
    process.stdout.write(
      `${RECIPES[name].reference} ${imageId.slice(0, 19)} ${megabytes} MB: docker load -i ${path}\n`,
    );
  }
}

if (import.meta.main) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`images: ${errorText(error)}\n`);
    process.exitCode = 1;
  }
}
