/** One session → what the speaker, the sockets and the kernel are told of it. What cannot be honoured safely shuts the session down and is said. */
import type { FilterRule, PeerConfig } from "@calico-ts/bgp";
import { type BGPFilter, durationSeconds } from "@calico-ts/model";
import { type Family, hostPrefix, tryParseAddress } from "@calico-ts/net";
import type { HostRoute } from "../kernel/terms.ts";
import type { ConnectTo } from "../session/connections.ts";
import { exportFilter, importFilter } from "./filters.ts";
import type { Problem, SecretKey } from "./model-input.ts";
import type { Session } from "./sessions.ts";
import { addressOf, asOf, given, type World } from "./world.ts";

/** RFC 4724 section 3: twelve bits. */
const MAX_RESTART_SECONDS = 4095;
/** What BIRD takes when nothing is said. */
const DEFAULT_RESTART_SECONDS = 120;
const DEFAULT_HOLD_SECONDS = 90;
const MAX_HOLD_SECONDS = 65_535;
/** RFC 2385 as Linux has it (TCP_MD5SIG_MAXKEYLEN). */
const MAX_PASSWORD_BYTES = 80;
const MAX_TTL_HOPS = 254;

export interface PeerTerms {
  readonly peer: PeerConfig;
  readonly reach: ConnectTo;
  readonly hostRoute: HostRoute | undefined;
}

/** Filters of peers with the same list are one object, so that the speaker groups them without comparing rule by rule. */
export class FilterShop {
  readonly #world: World;
  readonly #exports: Readonly<Record<Family, readonly FilterRule[]>>;
  readonly #made = new Map<string, Pick<PeerConfig, "importFilter" | "exportFilter">>();

  constructor(world: World, exports: Readonly<Record<Family, readonly FilterRule[]>>) {
    this.#world = world;
    this.#exports = exports;
  }

  of(names: readonly string[], family: Family): Pick<PeerConfig, "importFilter" | "exportFilter"> {
    const key = `${family} ${names.join(" ")}`;
    let filters = this.#made.get(key);
    if (filters === undefined) {
      const named = names.map((name): BGPFilter | string => this.#world.filters.get(name) ?? name);
      filters = {
        importFilter: importFilter(named, family),
        exportFilter: exportFilter(named, family, this.#exports[family]),
      };
      this.#made.set(key, filters);
    }
    return filters;
  }
}

/** A session whose password cannot be had is there, shut down: whoever counts sessions counts it as one that is not up. */
export function peerTerms(world: World, session: Session, filters: FilterShop): PeerTerms {
  const secret = passwordOf(world, session);
  const { self } = world;
  const { address, kind, name, passive, remoteAs } = session;
  const spec = session.peer?.spec ?? {};
  const { family } = address;
  const mine = addressOf(self, family);
  const localAs = localAsOf(world, session);
  const internal = localAs === remoteAs;
  // A neighbour on a link-local address may have no way to the node's own: it is told the link-local end of the connection.
  const ownEnd = spec.sourceAddress === "None" || kind === "Local_Workload" || session.interface !== undefined;
  const source = ownEnd ? undefined : mine;
  const isReflector = given(self.routeReflectorClusterId);
  const keeps = spec.nextHopMode === "Keep" || (spec.keepOriginalNextHop === true && !internal);
  const hops = spec.ttlSecurity ?? 0;
  return {
    peer: {
      name,
      address,
      remoteAs,
      ...(localAs !== asOf(world, self) && { localAs }),
      families: [family === 4 ? "ipv4-unicast" : "ipv6-unicast"],
      ...(passive && { passive }),
      ...(isReflector &&
        internal &&
        session.node?.routeReflectorClusterId !== self.routeReflectorClusterId && { reflectorClient: true }),
      ...timers(spec.keepaliveTime),
      gracefulRestart: { restartSeconds: restartSeconds(world, session) },
      addPath: { receive: true, send: true },
      ...((spec.numAllowedLocalASNumbers ?? 0) > 0 && { allowedLocalAs: spec.numAllowedLocalASNumbers }),
      nextHop: spec.nextHopMode === "Self" ? "self" : keeps ? "keep" : "auto",
      ...(mine !== undefined && !ownEnd && { nextHopSelf: family === 4 ? { ipv4: mine } : { ipv6: mine } }),
      ...filters.of(session.peer?.spec.filters ?? [], family),
      ...(secret === NOT_TO_BE_HAD && { shutdown: "its password cannot be had" }),
    },
    reach: {
      address,
      port: session.port,
      ...(source !== undefined && { sourceAddress: source }),
      ...(session.interface !== undefined && { interface: session.interface }),
      ...(secret !== undefined && secret !== NOT_TO_BE_HAD && { password: secret.password }),
      ...(hops > 0 && { ttlSecurityHops: Math.min(hops, MAX_TTL_HOPS) }),
    },
    hostRoute: hostRouteOf(session),
  };
}

/** Nodes know one another by their own AS numbers, as upstream; only who is named by address is told another. */
function localAsOf(world: World, { node, peer }: Session): number {
  const { localASNumber, peerSelector } = peer?.spec ?? {};
  const own = asOf(world, world.self);
  if (!localASNumber) return own;
  if (node === undefined) return localASNumber;
  if (given(peerSelector)) {
    const why = "nodes that peerSelector chooses know this node by its own AS number";
    const whatToDo = "The field does not count; leave it out, or name the peer by its address";
    note(world, { object: `BGPPeer ${peer?.metadata.name ?? ""}`, field: "spec.localASNumber", why, whatToDo });
  }
  return own;
}

/** The mesh's time is the cluster's. */
function restartSeconds({ cluster }: World, { kind, peer }: Session): number {
  const text = kind === "Mesh" ? cluster.nodeMeshMaxRestartTime : peer?.spec.maxRestartTime;
  return Math.min(durationSeconds(text ?? "") ?? DEFAULT_RESTART_SECONDS, MAX_RESTART_SECONDS);
}

/** A keep-alive interval needs a hold time of three of them (RFC 4271 section 4.4). */
function timers(keepalive: string | undefined): Pick<PeerConfig, "timers"> {
  const seconds = durationSeconds(keepalive ?? "");
  if (seconds === undefined || seconds < 1) return {};
  const holdSeconds = Math.min(Math.max(DEFAULT_HOLD_SECONDS, 3 * seconds), MAX_HOLD_SECONDS);
  return { timers: { keepaliveSeconds: seconds, holdSeconds } };
}

function hostRouteOf({ address, peer }: Session): HostRoute | undefined {
  const gateway = tryParseAddress(peer?.spec.reachableBy ?? "");
  if (gateway === undefined || gateway.family !== address.family) return undefined;
  return { destination: hostPrefix(address), gateway };
}

const NOT_TO_BE_HAD = "not to be had";
type Secret = { readonly password: string } | typeof NOT_TO_BE_HAD;

/** Undefined: there is to be none. */
function passwordOf(world: World, session: Session): Secret | undefined {
  const { peer, kind } = session;
  const reference = (kind === "Mesh" ? world.cluster.nodeMeshPassword : peer?.spec.password)?.secretKeyRef;
  if (reference === undefined) return undefined;
  const where =
    kind === "Mesh"
      ? { object: "BGPConfiguration default", field: "spec.nodeMeshPassword.secretKeyRef" }
      : { object: `BGPPeer ${peer?.metadata.name ?? ""}`, field: "spec.password.secretKeyRef" };
  const key: SecretKey = { name: reference.name ?? "", key: reference.key };
  if (key.name === "" || key.key === "") {
    return refuse(world, { ...where, why: "it names no Secret and key", whatToDo: "Name both" });
  }
  world.secrets.set(`${key.name} ${key.key}`, key);
  const value = world.input.secret(key);
  if (value === undefined) {
    if (reference.optional === true) return undefined;
    const what = `there is no key ${key.key} in a Secret ${key.name} that the daemon may read`;
    const before = world.input.previous?.config?.reach.get(session.name)?.password;
    const then =
      before === undefined
        ? "Sessions that need it stay closed"
        : "The password that was read before goes on being used";
    note(world, { ...where, why: what, whatToDo: `${then}; make the Secret in the daemon's namespace` });
    return before === undefined ? NOT_TO_BE_HAD : { password: before };
  }
  const bytes = new TextEncoder().encode(value).length;
  if (bytes >= 1 && bytes <= MAX_PASSWORD_BYTES) return { password: value };
  const why = `the password in Secret ${key.name} has ${bytes} bytes`;
  return refuse(world, { ...where, why, whatToDo: `Use 1 to ${MAX_PASSWORD_BYTES} bytes` });
}

function refuse(world: World, problem: Problem): Secret {
  note(world, { ...problem, whatToDo: `Sessions that need it stay closed. ${problem.whatToDo}` });
  return NOT_TO_BE_HAD;
}

/** Once per object, however many sessions it concerns. */
export function note({ problems }: World, problem: Problem): void {
  const same = (one: Problem): boolean =>
    one.object === problem.object && one.field === problem.field && one.why === problem.why;
  if (!problems.some(same)) problems.push(problem);
}
