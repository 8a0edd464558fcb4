import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { extract, type Header } from "tar-stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ImageSpec, type Layer, writeImageArchive, writeLayer } from "./archive.ts";

const IMAGE: ImageSpec = {
  reference: "calico-ts/example:v1",
  architecture: "amd64",
  created: "1970-01-01T00:00:00.000Z",
  environment: { PATH: "/bin", A: "1" },
  command: ["example", "run"],
  labels: { "org.opencontainers.image.title": "example" },
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ct-archive-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function entriesOf(path: string): Promise<Map<string, { header: Header; bytes: Buffer }>> {
  const tar = extract();
  const entries = new Map<string, { header: Header; bytes: Buffer }>();
  tar.end(readFileSync(path));
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    entries.set(entry.header.name, { header: entry.header, bytes: Buffer.concat(chunks) });
  }
  return entries;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const path = (...parts: string[]): string => join(folder, ...parts);
const layerOf = (root: string, name = "layer"): Promise<Layer> => writeLayer(root, path(`${name}.tar`), name);

function tree(name: string, files: Readonly<Record<string, string>>): string {
  const root = path(name);
  mkdirSync(root, { mode: 0o755 });
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true, mode: 0o755 });
    writeFileSync(join(root, file), text, { mode: 0o644 });
  }
  return root;
}

describe("layers", () => {
  test("carry files, folders, modes, links and names that ustar cannot hold", async () => {
    const long = `${"deep/".repeat(30)}Főtanúsítvány.crt`;
    const root = tree("root", { "bin/program": "run", [long]: "certificate", empty: "" });
    chmodSync(join(root, "bin/program"), 0o755);
    mkdirSync(join(root, "tmp"));
    chmodSync(join(root, "tmp"), 0o1777);
    symlinkSync("/bin/program", join(root, "also"));
    linkSync(join(root, "bin/program"), join(root, "bin/twin"));
    const entries = await entriesOf((await layerOf(root)).path);
    const header = (name: string): Partial<Header> | undefined => entries.get(name)?.header;
    expect(header("bin/program")).toMatchObject({ type: "file", mode: 0o755, uid: 0, gid: 0, uname: "", size: 3 });
    expect(header("bin/program")?.mtime).toEqual(new Date(0));
    expect(header("bin/twin")).toMatchObject({ type: "link", linkname: "bin/program", size: 0 });
    expect(header("also")).toMatchObject({ type: "symlink", linkname: "/bin/program" });
    expect(header("tmp")).toMatchObject({ type: "directory", mode: 0o1777 });
    expect(entries.get(long)?.bytes.toString()).toBe("certificate");
    expect(entries.get("empty")?.bytes).toHaveLength(0);
    // What people have on their machines reads it as well.
    mkdirSync(path("out"));
    execFileSync("tar", ["-C", path("out"), "-xf", path("layer.tar")]);
    expect(readFileSync(path("out", long), "utf8")).toBe("certificate");
  });

  test("digest and size are those of the file", async () => {
    const layer = await layerOf(tree("root", { a: "x".repeat(100_000), b: "" }));
    const bytes = readFileSync(layer.path);
    expect(layer).toMatchObject({ sha256: sha256(bytes), size: bytes.length });
  });

  test("the same content gives the same bytes, whenever and in whatever order it was made", async () => {
    let folders = 0;
    const name = fc.stringMatching(/^[a-c~A]{1,3}(\/[a-cé.]{1,2}x){0,2}$/);
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, fc.string()), fc.nat(2 ** 31 - 1), async (files, time) => {
        const names = Object.keys(files);
        // A name that is a folder on the way to another cannot be a file as well.
        const usable = names.filter((one) => !names.some((other) => other.startsWith(`${one}/`)));
        const listing = usable.map((one) => [one, files[one] ?? ""] as const);
        folders += 2;
        const first = await layerOf(tree(`first-${folders}`, Object.fromEntries(listing)), "1");
        const second = tree(`second-${folders}`, Object.fromEntries(listing.toReversed()));
        for (const child of readdirSync(second)) utimesSync(join(second, child), time, time);
        expect((await layerOf(second, "2")).sha256).toBe(first.sha256);
      }),
      { numRuns: 15 },
    );
  });

  test("what an image cannot carry is refused by name", async () => {
    const root = tree("root", { a: "" });
    execFileSync("mkfifo", [join(root, "pipe")]);
    await expect(layerOf(root)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining(join(root, "pipe")) as string,
    });
  });
});

describe("archives", () => {
  interface Descriptor {
    readonly digest: string;
    readonly size: number;
  }

  test("one file is a Docker archive and an OCI layout of the same blobs", async () => {
    const layers = [await layerOf(tree("a", { one: "1" }), "a"), await layerOf(tree("b", { two: "2" }), "b")];
    const archive = await writeImageArchive(IMAGE, layers, path("image.tar"));
    const entries = await entriesOf(archive.path);
    const bytes = (name: string): Buffer => {
      const entry = entries.get(name);
      if (entry === undefined) throw new Error(`no ${name} in the archive`);
      return entry.bytes;
    };
    const blob = ({ digest, size }: Descriptor): Buffer => {
      const content = bytes(`blobs/${digest.replace(":", "/")}`);
      expect([sha256(content), content.length]).toEqual([digest.slice("sha256:".length), size]);
      return content;
    };
    const parse = (content: Buffer): unknown => JSON.parse(content.toString());

    expect(parse(bytes("oci-layout"))).toEqual({ imageLayoutVersion: "1.0.0" });
    const index = parse(bytes("index.json")) as { manifests: [Descriptor & { annotations: object }] };
    expect(index.manifests[0].annotations).toEqual({
      "io.containerd.image.name": "docker.io/calico-ts/example:v1",
      "org.opencontainers.image.ref.name": "v1",
    });
    const manifest = parse(blob(index.manifests[0])) as { config: Descriptor; layers: Descriptor[] };
    const config = parse(blob(manifest.config)) as { rootfs: { diff_ids: string[] } };
    expect(config).toMatchObject({
      architecture: "amd64",
      os: "linux",
      config: { Env: ["A=1", "PATH=/bin"], Cmd: ["example", "run"], User: "0:0", Labels: IMAGE.labels },
    });
    // Not compressed: the digest of the blob is the digest of the layer.
    expect(config.rootfs.diff_ids).toEqual(manifest.layers.map((layer) => layer.digest));
    expect(manifest.layers.map((layer) => sha256(blob(layer)))).toEqual(layers.map((layer) => layer.sha256));
    expect(archive.imageId).toBe(manifest.config.digest);
    expect(parse(bytes("manifest.json"))).toEqual([
      {
        Config: `blobs/${manifest.config.digest.replace(":", "/")}`,
        RepoTags: ["calico-ts/example:v1"],
        Layers: manifest.layers.map((layer) => `blobs/${layer.digest.replace(":", "/")}`),
      },
    ]);
  });

  test("the same image twice is the same bytes; anything else about it is another image", async () => {
    const layers = [await layerOf(tree("a", { one: "1" }))];
    const write = (image: ImageSpec): Promise<{ sha256: string; imageId: string }> =>
      writeImageArchive(image, layers, path(`${Math.random()}.tar`));
    const first = await write(IMAGE);
    const again = await write({ ...IMAGE, environment: { A: "1", PATH: "/bin" } });
    expect([again.sha256, again.imageId]).toEqual([first.sha256, first.imageId]);
    expect((await write({ ...IMAGE, command: ["other"] })).imageId).not.toBe(first.imageId);
  });

  test("a layer that appears twice is stored once", async () => {
    const layer = await layerOf(tree("a", { one: "1" }));
    const archive = await writeImageArchive(IMAGE, [layer, layer], path("image.tar"));
    const names = execFileSync("tar", ["-tf", archive.path], { encoding: "utf8" }).trim().split("\n");
    expect(names).toHaveLength(new Set(names).size);
  });

  test("nothing is left of an archive that could not be written", async () => {
    const layer = { ...(await layerOf(tree("a", {}))), path: path("gone.tar") };
    await expect(writeImageArchive(IMAGE, [layer], path("image.tar"))).rejects.toThrow("gone.tar");
    expect(readdirSync(folder).filter((name) => name.startsWith("image"))).toEqual([]);
  });
});
