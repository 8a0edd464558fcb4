/**
 * Tar files that depend on nothing but what is in them: names in order, every time zero, every owner root, no user names, no extended
 * attributes. The same folder gives the same bytes on every machine, and so the same digest. Format: POSIX.1-2001 (ustar with pax headers for
 * long and non-ASCII names).
 *
 * Files that share an inode are written once and linked after that, as an image that carries one executable under two names wants it.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, lstatSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CalicoError } from "@calico-ts/std";
import { type Header, type Pack, pack } from "tar-stream";

export type TarEntry =
  | { readonly kind: "folder"; readonly name: string; readonly mode: number }
  | { readonly kind: "symlink" | "link"; readonly name: string; readonly target: string }
  | { readonly kind: "bytes"; readonly name: string; readonly mode: number; readonly bytes: Uint8Array }
  | FileEntry;

interface FileEntry {
  readonly kind: "file";
  readonly name: string;
  readonly mode: number;
  readonly path: string;
  readonly size: number;
}

export interface WrittenFile {
  readonly path: string;
  /** Hexadecimal. */
  readonly sha256: string;
  readonly size: number;
}

/**
 * Everything below a folder, parents before children, siblings by name.
 * @throws CalicoError UNSUPPORTED for devices, sockets and pipes
 */
export function folderEntries(folder: string): TarEntry[] {
  const nameByInode = new Map<string, string>();
  const entries: TarEntry[] = [];
  const walk = (parent: string): void => {
    for (const child of readdirSync(join(folder, parent)).toSorted()) {
      const name = parent === "" ? child : `${parent}/${child}`;
      const entry = entryOf(folder, name, nameByInode);
      entries.push(entry);
      if (entry.kind === "folder") walk(name);
    }
  };
  walk("");
  return entries;
}

function entryOf(folder: string, name: string, nameByInode: Map<string, string>): TarEntry {
  const path = join(folder, name);
  const stat = lstatSync(path);
  const mode = stat.mode & 0o7777;
  if (stat.isDirectory()) return { kind: "folder", name, mode };
  if (stat.isSymbolicLink()) return { kind: "symlink", name, target: readlinkSync(path) };
  if (!stat.isFile()) {
    throw new CalicoError("UNSUPPORTED", `${path} is neither file, folder nor link: an image cannot carry it`);
  }
  const inode = `${stat.dev}:${stat.ino}`;
  const first = nameByInode.get(inode);
  if (first !== undefined) return { kind: "link", name, target: first };
  nameByInode.set(inode, name);
  return { kind: "file", name, mode, path, size: stat.size };
}

/** Writes the entries in the order given. */
export async function writeTar(entries: readonly TarEntry[], path: string): Promise<WrittenFile> {
  const hash = createHash("sha256");
  let size = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  const tar = pack();
  const writing = pipeline(tar, measure, createWriteStream(path));
  const filling = fill(tar, entries);
  await Promise.all([writing, filling]);
  return { path, sha256: hash.digest("hex"), size };
}

async function fill(tar: Pack, entries: readonly TarEntry[]): Promise<void> {
  try {
    for (const entry of entries) {
      if (entry.kind === "file") await addFile(tar, entry);
      else if (entry.kind === "bytes") tar.entry(header(entry), Buffer.from(entry.bytes));
      else tar.entry(header(entry));
    }
    tar.finalize();
  } catch (error) {
    tar.destroy(error as Error);
    throw error;
  }
}

async function addFile(tar: Pack, entry: FileEntry): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const sink = tar.entry(header(entry), (error) => (error ? reject(error) : resolve(undefined)));
  await Promise.all([pipeline(createReadStream(entry.path), sink), promise]);
}

function header(entry: TarEntry): Partial<Header> & Pick<Header, "name"> {
  const common = { name: entry.name, mtime: new Date(0), uid: 0, gid: 0, uname: "", gname: "" };
  switch (entry.kind) {
    case "folder":
      return { ...common, type: "directory", mode: entry.mode, size: 0 };
    case "symlink":
    case "link":
      return { ...common, type: entry.kind, linkname: entry.target, mode: 0o777, size: 0 };
    case "bytes":
      return { ...common, type: "file", mode: entry.mode, size: entry.bytes.length };
    case "file":
      return { ...common, type: "file", mode: entry.mode, size: entry.size };
  }
}
