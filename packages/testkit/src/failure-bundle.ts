/**
 * START HERE. A failure bundle is everything one wants to look at after a test on the kernel failed and its namespaces are gone: links,
 * addresses, rules, routes of all tables, neighbours and forwarding entries, the nf_tables rule set, tracked connections, sockets, and log
 * files. Best effort: what cannot be read is noted in its place, and capturing never fails a test by itself.
 *
 * The witnesses are `ip`, `bridge`, `nft`, `conntrack` and `ss`, not our own decoders: those may be what is broken.
 */
import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { basename, join, resolve } from "node:path";
import { inNamespace, namespacePath } from "@calico-ts/linux";
import { errorText } from "@calico-ts/std";

export interface BundleOptions {
  /** Names or paths of network namespaces. */
  readonly netns: readonly string[];
  /** Log files; of a long one the end is taken. */
  readonly files?: readonly string[];
  /** Where bundles go: `artifacts` in the working directory when absent. */
  readonly dir?: string;
  /** The test; becomes the folder's name. */
  readonly name: string;
  /** What failed, in words: goes into summary.txt. */
  readonly reason?: string;
}

const WITNESSES: readonly (readonly [file: string, ...command: string[]])[] = [
  ["links.txt", "ip", "-d", "-s", "link", "show"],
  ["addresses.txt", "ip", "address", "show"],
  ["rules.txt", "ip", "rule", "show"],
  ["rules-v6.txt", "ip", "-6", "rule", "show"],
  ["routes.txt", "ip", "-d", "route", "show", "table", "all"],
  ["routes-v6.txt", "ip", "-6", "-d", "route", "show", "table", "all"],
  ["neighbours.txt", "ip", "-s", "neighbour", "show"],
  ["fdb.txt", "bridge", "-s", "fdb", "show"],
  ["nft.txt", "nft", "-a", "list", "ruleset"],
  ["conntrack.txt", "conntrack", "-L"],
  ["conntrack-v6.txt", "conntrack", "-L", "-f", "ipv6"],
  ["sockets.txt", "ss", "-tuanp"],
  ["counters.txt", "nstat", "-asz"],
];

const WITNESS_TIMEOUT_MS = 5000;
const LONGEST_OUTPUT = 32 << 20;
const LONGEST_LOG = 4 << 20;

/** Writes the bundle, says on standard error where it is, and returns its folder. */
export function captureBundle(options: BundleOptions): string {
  const folder = resolve(options.dir ?? "artifacts", folderName(options.name));
  const problems: string[] = [];
  const attempt = (what: string, action: () => void): void => {
    try {
      action();
    } catch (error) {
      problems.push(`${what}: ${errorText(error)}`);
    }
  };
  attempt(folder, () => mkdirSync(folder, { recursive: true }));
  for (const namespace of options.netns) attempt(namespace, () => captureNamespace(folder, namespace));
  for (const [index, file] of (options.files ?? []).entries()) {
    attempt(file, () => writeFileSync(join(folder, `${index}-${basename(file)}`), endOf(file)));
  }
  attempt("summary.txt", () => writeFileSync(join(folder, "summary.txt"), summary(options, problems)));
  process.stderr.write(`failure bundle of "${options.name}": ${folder}\n`);
  return folder;
}

function captureNamespace(folder: string, namespace: string): void {
  const path = namespace.includes("/") ? namespace : namespacePath(namespace);
  const into = join(folder, basename(path));
  mkdirSync(into, { recursive: true });
  inNamespace(path, () => {
    for (const [file, command, ...args] of WITNESSES) {
      if (command !== undefined) writeFileSync(join(into, file), witness(command, args));
    }
  });
}

function witness(command: string, args: readonly string[]): string {
  const { stdout, stderr, error, status } = spawnSync(command, args, {
    encoding: "utf8",
    timeout: WITNESS_TIMEOUT_MS,
    maxBuffer: LONGEST_OUTPUT,
  });
  const head = `# ${command} ${args.join(" ")}\n`;
  if (error !== undefined) return `${head}# ${errorText(error)}\n${stdout}`;
  return `${head}${stdout}${status === 0 ? "" : `# exit ${status}\n${stderr}`}`;
}

function endOf(file: string): Buffer {
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, LONGEST_LOG));
    const length = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

const summary = (options: BundleOptions, problems: readonly string[]): string =>
  [
    `test: ${options.name}`,
    `kernel: ${release()}`,
    `node: ${process.version}`,
    `namespaces: ${options.netns.join(" ")}`,
    ...(options.reason === undefined ? [] : [`failed: ${options.reason}`]),
    ...problems.map((problem) => `not captured: ${problem}`),
    "",
  ].join("\n");

function folderName(name: string): string {
  const plain = name.replaceAll(/[^A-Za-z0-9._-]+/g, "-").replaceAll(/^[-.]+|[-.]+$/g, "");
  return plain === "" ? "unnamed" : plain.slice(0, 120);
}
