/**
 * How resources lie in etcd: key and value of each kind, exactly as upstream writes them (its keys are the interface other
 * nodes and tools read). Most kinds are the resource itself, as JSON, under /calico/resources/v3. Address management keeps its older,
 * leaner records under /calico/ipam/v2, and a node is Calico's Node. Pure.
 */
import {
  affinityLabels,
  affinityName,
  blockName,
  CALICO_API_VERSION,
  type KindInfo,
  type KindName,
  kinds,
  type Owner,
  prepare,
} from "@calico-ts/model";
import { formatPrefix, type Prefix, tryParsePrefix } from "@calico-ts/net";
import type { ResourceKey } from "../client.ts";
import type { AnyResource } from "../resource.ts";
import { nodeFromStored, nodeToStored } from "./stored-node.ts";

export interface Range {
  readonly start: string;
  /** Exclusive. */
  readonly end: string;
}

export interface StoredKind {
  /** Records of address management: the value has no metadata, identity is etcd's (creation and modification revision). */
  readonly bare: boolean;
  pathOf(resource: AnyResource): string;
  /** Paths under which a resource of that name can be; undefined: the name does not tell. */
  candidates(key: ResourceKey): readonly string[] | undefined;
  /** Where all of them are, perhaps with others between. */
  range(namespace: string | undefined): Range;
  encode(resource: AnyResource): unknown;
  /** undefined: the path is not of this kind. */
  decode(path: string, value: unknown): AnyResource | undefined;
}

const RESOURCES = "/calico/resources/v3/projectcalico.org";
const IPAM = "/calico/ipam/v2";

/** Kinds Kubernetes keeps, and etcd does not. */
export function storedKind(kind: KindName): StoredKind | undefined {
  const special = SPECIAL[kind];
  if (special !== undefined) return special;
  const info = kinds[kind];
  return info.group === "projectcalico.org" ? plainKind(kind, info) : undefined;
}

const prefixRange = (start: string): Range => ({ start, end: `${start.slice(0, -1)}0` }); // "0" follows "/"

function plainKind(kind: KindName, info: KindInfo): StoredKind {
  const base = `${RESOURCES}/${info.plural.toLowerCase()}/`;
  const path = ({ name, namespace }: ResourceKey): string =>
    info.namespaced ? `${base}${namespace ?? ""}/${name}` : `${base}${name}`;
  return {
    bare: false,
    pathOf: ({ metadata }) => path({ name: metadata.name ?? "", namespace: metadata.namespace }),
    candidates: (key) => [path(key)],
    range: (namespace) => prefixRange(info.namespaced && namespace !== undefined ? `${base}${namespace}/` : base),
    encode: withoutRevision,
    decode: (at, value) => {
      if (!at.startsWith(base)) return undefined;
      const [first = "", second] = at.slice(base.length).split("/");
      const named = second === undefined ? { name: first } : { namespace: first, name: second };
      const found = isObject(value) ? value : {};
      const { metadata } = found;
      const resource = {
        apiVersion: info.apiVersion,
        kind: info.kind,
        ...found,
        metadata: { ...(isObject(metadata) ? metadata : {}), ...named },
      };
      // Written by an older version, or by hand: defaults are filled in where the rest is valid.
      const prepared = prepare(kind, resource);
      return (prepared.ok ? prepared.resource : resource) as unknown as AnyResource;
    },
  };
}

function withoutRevision(resource: AnyResource): unknown {
  const { resourceVersion: _etcdKnows, ...metadata } = resource.metadata;
  return { ...resource, metadata };
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const specOf = (resource: AnyResource): Readonly<Record<string, unknown>> =>
  isObject(resource["spec"]) ? resource["spec"] : {};

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

/** `10.0.0.0/26` → `10.0.0.0-26`, as in keys. */
const cidrInPath = (prefix: Prefix): string => formatPrefix(prefix).replace("/", "-");
const prefixFromPath = (text: string): Prefix | undefined => tryParsePrefix(text.replace(/-(?=\d+$)/, "/"));

/** The prefixes whose block name is this: with IPv6, dashes stand for colons and for the slash. */
function prefixFromName(name: string): Prefix | undefined {
  const v4 = /^(\d+)-(\d+)-(\d+)-(\d+)-(\d+)$/.exec(name);
  const text =
    v4 === null
      ? `${name.slice(0, name.lastIndexOf("-")).replaceAll("-", ":")}/${name.slice(name.lastIndexOf("-") + 1)}`
      : `${v4.slice(1, 5).join(".")}/${v4[5] ?? ""}`;
  const prefix = tryParsePrefix(text);
  return prefix !== undefined && blockName(prefix) === name ? prefix : undefined;
}

const record = (kind: KindName, name: string, spec: object, labels?: Record<string, string>): AnyResource => ({
  apiVersion: CALICO_API_VERSION,
  kind,
  metadata: labels === undefined ? { name } : { name, labels },
  spec,
});

const blockPath = (prefix: Prefix): string => `${IPAM}/assignment/ipv${prefix.family}/block/${cidrInPath(prefix)}`;

const affinityPath = (owner: Owner, prefix: Prefix): string =>
  `${IPAM}/${owner.type}/${owner.name}/ipv${prefix.family}/block/${cidrInPath(prefix)}`;

const blocks: StoredKind = {
  bare: true,
  pathOf: (resource) => {
    const prefix = tryParsePrefix(textOf(specOf(resource)["cidr"]));
    return prefix === undefined ? "" : blockPath(prefix);
  },
  candidates: ({ name }) => {
    const prefix = prefixFromName(name);
    return prefix === undefined ? [] : [blockPath(prefix)];
  },
  range: () => prefixRange(`${IPAM}/assignment/`),
  encode: (resource) => {
    const { affinity, affinityClaimTime, strictAffinity: _notThere, ...rest } = specOf(resource);
    const since = affinityClaimTime === undefined ? {} : { affinity_claim_time: affinityClaimTime };
    return { ...rest, affinity: affinity ?? null, ...since };
  },
  decode: (path, value) => {
    const match = /^\/calico\/ipam\/v2\/assignment\/ipv[46]\/block\/([^/]+)$/.exec(path);
    const prefix = match?.[1] === undefined ? undefined : prefixFromPath(match[1]);
    if (prefix === undefined || !isObject(value)) return undefined;
    const { affinity, affinity_claim_time: since, hostAffinity, ...rest } = value;
    // Very old blocks name the host without "host:".
    const owner = textOf(affinity) || (textOf(hostAffinity) === "" ? "" : `host:${textOf(hostAffinity)}`);
    const spec = {
      strictAffinity: false,
      ...rest,
      // Go writes an empty list as null where nothing was ever put into it: a block nobody has used yet.
      attributes: rest["attributes"] ?? [],
      unallocated: rest["unallocated"] ?? [],
      ...(owner === "" ? {} : { affinity: owner }),
      ...(textOf(since) === "" ? {} : { affinityClaimTime: since }),
    };
    return record("IPAMBlock", blockName(prefix), spec);
  },
};

const handles: StoredKind = {
  bare: true,
  pathOf: (resource) => `${IPAM}/handle/${textOf(specOf(resource)["handleID"])}`,
  candidates: ({ name }) => [`${IPAM}/handle/${name}`],
  range: () => prefixRange(`${IPAM}/handle/`),
  encode: (resource) => {
    const { handleID: _inTheKey, ...value } = specOf(resource);
    return value;
  },
  decode: (path, value) => {
    const handleID = /^\/calico\/ipam\/v2\/handle\/([^/]+)$/.exec(path)?.[1];
    return handleID === undefined || !isObject(value)
      ? undefined
      : record("IPAMHandle", handleID, { deleted: false, ...value, handleID });
  },
};

const affinities: StoredKind = {
  bare: true,
  pathOf: (resource) => {
    const { cidr, node, type } = specOf(resource);
    const prefix = tryParsePrefix(textOf(cidr));
    const owner: Owner = { type: type === "virtual" ? "virtual" : "host", name: textOf(node) };
    return prefix === undefined ? "" : affinityPath(owner, prefix);
  },
  candidates: ({ name }) => {
    const paths: string[] = [];
    // Where the owner's name ends and the block's begins is not marked: every way to read it that makes sense.
    for (let at = name.indexOf("-"); at > 0; at = name.indexOf("-", at + 1)) {
      const prefix = prefixFromName(name.slice(at + 1));
      if (prefix === undefined) continue;
      for (const type of ["host", "virtual"] as const) {
        const owner = { type, name: name.slice(0, at) };
        if (affinityName(owner, prefix) === name) paths.push(affinityPath(owner, prefix));
      }
    }
    return paths.length === 0 ? undefined : paths;
  },
  // From "host/" to "virtual/": nothing of upstream's lies between, and what does is passed over.
  range: () => ({ start: `${IPAM}/host/`, end: `${IPAM}/virtual0` }),
  encode: (resource) => {
    const { cidr: _inTheKey, node: _there, type: _too, deleted, ...value } = specOf(resource);
    return { ...value, deleted: deleted === true };
  },
  decode: (path, value) => {
    const match = /^\/calico\/ipam\/v2\/(host|virtual)\/([^/]+)\/ipv[46]\/block\/([^/]+)$/.exec(path);
    const prefix = match?.[3] === undefined ? undefined : prefixFromPath(match[3]);
    if (match?.[2] === undefined || prefix === undefined) return undefined;
    const owner: Owner = { type: match[1] === "virtual" ? "virtual" : "host", name: match[2] };
    const found = { state: "", deleted: false, ...(isObject(value) ? value : {}) };
    const spec = { ...found, cidr: formatPrefix(prefix), node: owner.name, type: owner.type };
    return record("BlockAffinity", affinityName(owner, prefix), spec, affinityLabels(owner, prefix));
  },
};

const configuration: StoredKind = {
  bare: true,
  pathOf: () => `${IPAM}/config`,
  candidates: ({ name }) => (name === "default" ? [`${IPAM}/config`] : []),
  range: () => ({ start: `${IPAM}/config`, end: `${IPAM}/config\0` }),
  encode: (resource) => {
    const { strictAffinity, autoAllocateBlocks, ...rest } = specOf(resource);
    // Upstream leaves out what is false or 0.
    const value = { strict_affinity: strictAffinity, auto_allocate_blocks: autoAllocateBlocks, ...rest };
    return Object.fromEntries(Object.entries(value).filter(([, said]) => said !== false && said !== 0));
  },
  decode: (path, value) => {
    if (path !== `${IPAM}/config` || !isObject(value)) return undefined;
    const {
      strict_affinity: strictAffinity = false,
      auto_allocate_blocks: autoAllocateBlocks = false,
      ...rest
    } = value;
    return record("IPAMConfiguration", "default", { maxBlocksPerHost: 0, ...rest, strictAffinity, autoAllocateBlocks });
  },
};

const nodes: StoredKind = {
  ...plainKind("Node", { ...kinds.Node, apiVersion: CALICO_API_VERSION }),
  encode: (resource) => withoutRevision(nodeToStored(resource)),
  decode: (path, value) => {
    const name = path.startsWith(`${RESOURCES}/nodes/`) ? path.slice(RESOURCES.length + "/nodes/".length) : undefined;
    return name === undefined || !isObject(value) ? undefined : nodeFromStored(name, value);
  },
};

const SPECIAL: Readonly<Partial<Record<KindName, StoredKind>>> = {
  IPAMBlock: blocks,
  IPAMHandle: handles,
  BlockAffinity: affinities,
  IPAMConfiguration: configuration,
  Node: nodes,
};
