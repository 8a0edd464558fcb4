/** A configuration's speaker with all its peers, joined in memory: what does each of them hear? */
import {
  BgpSpeaker,
  type ConnectionOf,
  type OwnRouteFacts,
  type PathAttributes,
  showReceivedRoutes,
  type SpeakerAction,
} from "@calico-ts/bgp";
import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import { localPrefOf } from "../../src/priority.ts";
import type { DaemonConfig } from "../../src/daemon.ts";

export interface Found {
  readonly interface?: string;
  /** Kernel metric; default 1024. */
  readonly metric?: number;
  readonly gateway?: boolean;
}

export interface Setting {
  /** Routes in the node's kernel. */
  readonly found?: Readonly<Record<string, Found>>;
  /** What peers announce, by name of the peer, then prefix. */
  readonly heard?: Readonly<Record<string, Readonly<Record<string, PathAttributes>>>>;
}

type Heard = ReadonlyMap<string, PathAttributes>;

export interface Told {
  /** What a peer has heard from us, with attributes as they arrived. */
  by(peer: string): Heard;
  readonly us: BgpSpeaker;
}

export function tell(config: DaemonConfig, { found = {}, heard = {} }: Setting = {}): Told {
  const us = new BgpSpeaker(config.speaker, 0);
  us.setNextHopResolver(
    () => 0,
    () => "eth0",
  );
  const ends: { readonly ours: ConnectionOf; readonly speaker: BgpSpeaker; readonly theirs: ConnectionOf }[] = [];
  us.start(0);
  for (const [at, peer] of config.speaker.peers.entries()) {
    const { name, passive = false, remoteAs, localAs = config.speaker.as, families, address } = peer;
    const as = { remoteAs: localAs, families, addPath: { receive: false, send: false } };
    const speaker = new BgpSpeaker(
      { as: remoteAs, routerId: 100 + at, peers: [{ name: "us", address: parseAddress("10.0.0.1"), ...as }] },
      0,
    );
    const own = heard[name] ?? {};
    const nextHop = address;
    for (const [prefix, attributes] of Object.entries(own))
      speaker.originate(parsePrefix(prefix), { nextHop, ...attributes }, 0);
    speaker.start(0);
    ends.push({
      ours: { peer: name, side: passive ? "incoming" : "outgoing" },
      speaker,
      theirs: { peer: "us", side: passive ? "outgoing" : "incoming" },
    });
  }
  for (const { prefix, attributes } of config.routes) us.originate(prefix, attributes, 0);
  for (const [prefix, { interface: name, metric = 1024, gateway = false }] of Object.entries(found)) {
    // As the daemon does it: what is configured comes first.
    if (config.routes.some((route) => formatPrefix(route.prefix) === prefix)) continue;
    const elevated = metric < 1024;
    const facts: OwnRouteFacts = {
      found: true,
      gateway,
      yields: elevated ? "equal" : "always",
      ...(name !== undefined && { interface: name }),
    };
    us.originate(parsePrefix(prefix), { localPref: localPrefOf(metric) }, 0, facts);
  }
  converge(us, ends);
  const by = (peer: string): Heard => {
    const end = ends.find(({ ours }) => ours.peer === peer);
    const routes = (["ipv4-unicast", "ipv6-unicast"] as const).flatMap((family) =>
      end === undefined ? [] : showReceivedRoutes(end.speaker, "us", family),
    );
    return new Map(routes.map(({ prefix, attributes }) => [prefix, attributes]));
  };
  return { by, us };
}

interface End {
  readonly ours: ConnectionOf;
  readonly speaker: BgpSpeaker;
  readonly theirs: ConnectionOf;
}

function converge(us: BgpSpeaker, ends: readonly End[]): void {
  const bytesFor = (actions: readonly SpeakerAction[], peer: string): Uint8Array[] =>
    actions.flatMap((action) => (action.do === "send" && action.peer === peer ? [action.bytes] : []));
  const toThem = new Map<End, Uint8Array[]>();
  const toUs = new Map<End, Uint8Array[]>();
  const take = (actions: readonly SpeakerAction[]): void => {
    for (const end of ends) toThem.get(end)?.push(...bytesFor(actions, end.ours.peer));
  };
  for (const end of ends) {
    toThem.set(end, []);
    toUs.set(
      end,
      bytesFor(
        end.speaker.connected(end.theirs, 0, end.ours.side === "outgoing" ? parseAddress("10.9.9.9") : undefined),
        "us",
      ),
    );
  }
  for (const end of ends) take(us.connected(end.ours, 0, parseAddress("10.0.0.1")));
  // Each exchange that still carries something may lead to another one; an hour of them is not convergence.
  for (let now = 1; now < 200; now++) {
    let moved = 0;
    for (const end of ends) {
      const [forThem, forUs] = [toThem.get(end) ?? [], toUs.get(end) ?? []];
      toThem.set(end, []);
      moved += forThem.length + forUs.length;
      const answers = forThem.flatMap((bytes) => bytesFor(end.speaker.receive(end.theirs, bytes, now), "us"));
      toUs.set(end, [...answers, ...bytesFor(end.speaker.tick(now), "us")]);
      for (const bytes of forUs) take(us.receive(end.ours, bytes, now));
    }
    take(us.tick(now));
    if (moved === 0 && now > 5) return;
  }
  throw new Error("the speakers never came to rest");
}
