/**
 * The lowest layer: what Node needs of Debian, and nothing that runs by itself (no shell, no package manager).
 *
 * mmdebstrap resolves, downloads and verifies the packages with the machine's own archive and keys, in its variant "extract": nothing of them is
 * executed. Their dependencies on tools (openssl, mawk, debconf) exist for maintainer scripts, which never run here; so only the packages of
 * KEPT are unpacked. What such a script would have made and somebody needs is made here: the certificate bundle, passwd, /var/run.
 * Packages are listed in var/lib/dpkg/status.d, where vulnerability scanners look in images that have no dpkg.
 *
 * The archive changes with every security update, so the result is the same bytes for the same package versions, not for ever. It is kept
 * by suite and architecture until asked to be made again.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { CalicoError } from "@calico-ts/std";

export interface BaseOptions {
  /** Debian's name of the release: `bookworm`. */
  readonly suite: string;
  /** Debian's name of the processor. */
  readonly architecture: "amd64" | "arm64";
  readonly cacheFolder: string;
  /** Make it again, with the packages of today. */
  readonly refresh?: boolean;
}

/** In this order: base-files brings the links (/lib to /usr/lib from Debian 13 on) that others unpack through. */
const KEPT: readonly string[] = ["base-files", "libc6", "libgcc-s1", "libstdc++6", "ca-certificates"];
/** Has the licence of the two GCC libraries; its name has GCC's version in it. */
const LICENCES = /^gcc-\d+-base$/;

/** Paths of the kept packages that nothing in an image reads. Licences stay. */
const DROPPED: readonly string[] = [
  "etc/{ca-certificates,dpkg,profile.d,update-motd.d,issue,issue.net}",
  "usr/lib/*/{gconv,audit}",
  "usr/sbin/*",
  "usr/share/{base-files,bug,ca-certificates,dict,doc-base,gcc,gdb,info,lintian,locale,man,misc}",
  "usr/share/doc/*/{*.gz,*.Debian,*.md,README*,FAQ,examples,test-summaries}",
  "var/{backups,local,mail,opt,spool}",
];

const FILES: Readonly<Record<string, string>> = {
  "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n",
  "etc/group": "root:x:0:\n",
  // Without it, glibc asks DNS before /etc/hosts.
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
};

/**
 * The folder that holds it.
 * @throws CalicoError BAD_INPUT (no name of a suite), NOT_FOUND (mmdebstrap is not installed), UNAVAILABLE (the archive did not give the packages)
 */
export function debianBase(options: BaseOptions): string {
  if (!/^[a-z][a-z0-9]*$/.test(options.suite)) {
    throw new CalicoError("BAD_INPUT", `a Debian suite has a name such as bookworm, not "${options.suite}"`);
  }
  const recipe = createHash("sha256")
    .update(readFileSync(import.meta.filename))
    .digest("hex")
    .slice(0, 12);
  const prefix = `debian-${options.suite}-${options.architecture}-`;
  const folder = join(options.cacheFolder, `${prefix}${recipe}`);
  if (existsSync(folder) && options.refresh !== true) return folder;
  mkdirSync(options.cacheFolder, { recursive: true });
  const scratch = mkdtempSync(join(options.cacheFolder, ".partial-"));
  try {
    const packages = downloadPackages(options, join(scratch, "download"));
    const root = join(scratch, "root");
    mkdirSync(root);
    for (const name of [...KEPT, ...packages.keys().filter((name) => LICENCES.test(name))])
      unpack(name, packages, root);
    tidy(root);
    for (const old of globSync(`${prefix}*`, { cwd: options.cacheFolder })) {
      rmSync(join(options.cacheFolder, old), { recursive: true, force: true });
    }
    renameSync(root, folder);
    return folder;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Package files by package name. */
function downloadPackages(options: BaseOptions, folder: string): ReadonlyMap<string, string> {
  const args = [
    "--variant=extract",
    "--format=directory",
    "--skip=cleanup/apt", // the package files are what we want
    `--architectures=${options.architecture}`,
    `--include=${KEPT.join(",")}`,
    options.suite,
    folder,
    ...archiveLines(options.suite),
  ];
  try {
    execFileSync("mmdebstrap", args, { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      throw new CalicoError(
        "NOT_FOUND",
        "the base of the images is made with mmdebstrap, which is not installed: apt-get install mmdebstrap",
        { cause: error },
      );
    }
    const lines = String((error as { stderr?: unknown }).stderr ?? error).split("\n");
    // The cause comes first; after it mmdebstrap says that it failed.
    const reasons = lines.filter((line) => line.startsWith("E: ")).map((line) => line.slice(3));
    throw new CalicoError(
      "UNAVAILABLE",
      `mmdebstrap could not fetch Debian ${options.suite} (${options.architecture}): ${reasons[0] ?? lines.at(-1) ?? ""}`,
    );
  }
  const files = globSync("var/cache/apt/archives/*.deb", { cwd: folder }).map((name) => join(folder, name));
  return new Map(files.map((file) => [dpkg("-f", file, "Package").trim(), file]));
}

/**
 * The machine's own sources of this suite, updates and security among them, as lines for sources.list; none if it has no such source, and
 * then mmdebstrap takes Debian's mirror. Third parties' repositories are not asked.
 */
function archiveLines(suite: string): string[] {
  let text: string;
  try {
    const format = "$(CREATED_BY) $(SITE) $(RELEASE) $(COMPONENT)";
    text = execFileSync("apt-get", ["indextargets", "--format", format], { encoding: "utf8" });
  } catch {
    return []; // not a Debian machine; mmdebstrap says what it misses
  }
  const releases = new Set([suite, `${suite}-updates`, `${suite}-security`]);
  const lines = text.split("\n").flatMap((line) => {
    const [createdBy, site, release, component] = line.split(" ");
    if (createdBy !== "Packages" || component !== "main" || !releases.has(release ?? "")) return [];
    return [`deb ${site} ${release} main`];
  });
  return [...new Set(lines)];
}

function unpack(name: string, packages: ReadonlyMap<string, string>, root: string): void {
  const file = packages.get(name);
  if (file === undefined) throw new CalicoError("UNAVAILABLE", `the archive has no package ${name}`);
  dpkg("-x", file, root);
  write(root, `var/lib/dpkg/status.d/${name}`, dpkg("-f", file));
}

function tidy(root: string): void {
  const certificates = globSync("usr/share/ca-certificates/mozilla/*.crt", { cwd: root }).toSorted();
  const bundle = certificates.map((file) => readFileSync(join(root, file), "utf8").trimEnd());
  write(root, "etc/ssl/certs/ca-certificates.crt", `${bundle.join("\n")}\n`);
  for (const pattern of DROPPED) {
    for (const path of globSync(pattern, { cwd: root })) rmSync(join(root, path), { recursive: true, force: true });
  }
  for (const [path, text] of Object.entries(FILES)) write(root, path, text);
  for (const [link, target] of [
    ["var/run", "/run"],
    ["var/lock", "/run/lock"],
  ] as const) {
    rmSync(join(root, link), { recursive: true, force: true });
    symlinkSync(target, join(root, link));
  }
}

function write(root: string, path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true, mode: 0o755 });
  writeFileSync(join(root, path), text);
  chmodSync(join(root, path), 0o644);
}

function dpkg(...args: readonly string[]): string {
  return execFileSync("dpkg-deb", args, { encoding: "utf8" });
}
