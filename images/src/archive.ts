/**
 * One image as one tar file that is two things at once: an OCI image layout (oci-layout, index.json, blobs/; image-spec v1.1) for podman,
 * skopeo and containerd, and a Docker archive (manifest.json; Docker image specification v1.2) for `docker load`. Both point at the same
 * blobs. Layers are not compressed: their digest is then the digest of their content, whatever zlib the building machine has.
 */
import { createHash } from "node:crypto";
import { renameSync, rmSync } from "node:fs";
import { folderEntries, writeTar, type TarEntry, type WrittenFile } from "./tar.ts";

export interface ImageSpec {
  /** As manifests have it: `calico-ts/node:v0.1.0`. */
  readonly reference: string;
  readonly architecture: "amd64" | "arm64";
  /** ISO 8601. */
  readonly created: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface Layer extends WrittenFile {
  /** Shown by `docker history`. */
  readonly comment: string;
}

export interface Archive extends WrittenFile {
  /** `sha256:…`, what engines call the image's id. */
  readonly imageId: string;
}

/** A layer with everything that is below the folder. */
export async function writeLayer(folder: string, path: string, comment: string): Promise<Layer> {
  return { ...(await writeTar(folderEntries(folder), path)), comment };
}

/** The archive appears whole or not at all. */
export async function writeImageArchive(image: ImageSpec, layers: readonly Layer[], path: string): Promise<Archive> {
  const config = json(imageConfig(image, layers));
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor("application/vnd.oci.image.config.v1+json", config),
    layers: layers.map((layer) => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar",
      digest: `sha256:${layer.sha256}`,
      size: layer.size,
    })),
  });
  const index = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [
      {
        ...descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
        platform: { architecture: image.architecture, os: "linux" },
        annotations: {
          // containerd (and so the kubelet) knows images by their whole name; a name without a registry is Docker Hub's.
          "io.containerd.image.name": `docker.io/${image.reference}`,
          "org.opencontainers.image.ref.name": image.reference.slice(image.reference.lastIndexOf(":") + 1),
        },
      },
    ],
  };
  const dockerManifest = [
    {
      Config: blobName(sha256(config)),
      RepoTags: [image.reference],
      Layers: layers.map((layer) => blobName(layer.sha256)),
    },
  ];
  const blobs = new Map<string, TarEntry>();
  for (const bytes of [config, manifest]) blobs.set(sha256(bytes), bytesEntry(blobName(sha256(bytes)), bytes));
  for (const layer of layers) {
    const name = blobName(layer.sha256);
    blobs.set(layer.sha256, { kind: "file", name, mode: 0o644, path: layer.path, size: layer.size });
  }
  const entries: TarEntry[] = [
    { kind: "folder", name: "blobs", mode: 0o755 },
    { kind: "folder", name: "blobs/sha256", mode: 0o755 },
    ...[...blobs].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry),
    bytesEntry("index.json", json(index)),
    bytesEntry("manifest.json", json(dockerManifest)),
    bytesEntry("oci-layout", json({ imageLayoutVersion: "1.0.0" })),
  ];
  const partial = `${path}.partial`;
  try {
    const written = await writeTar(entries, partial);
    renameSync(partial, path);
    return { ...written, path, imageId: `sha256:${sha256(config)}` };
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

function imageConfig(image: ImageSpec, layers: readonly Layer[]): unknown {
  return {
    architecture: image.architecture,
    os: "linux",
    created: image.created,
    config: {
      User: "0:0",
      WorkingDir: "/",
      Env: Object.entries(image.environment)
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, value]) => `${name}=${value}`),
      Cmd: image.command,
      Labels: Object.fromEntries(Object.entries(image.labels).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => `sha256:${layer.sha256}`) },
    history: layers.map((layer) => ({ created: image.created, created_by: layer.comment })),
  };
}

const blobName = (digest: string): string => `blobs/sha256/${digest}`;
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const bytesEntry = (name: string, bytes: Uint8Array): TarEntry => ({ kind: "bytes", name, mode: 0o644, bytes });

function descriptor(mediaType: string, bytes: Uint8Array): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
}
