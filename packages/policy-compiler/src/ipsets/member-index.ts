/**
 * Which addresses are in which IP set. Sets are switched on by the rules that use them; endpoints, network sets and
 * services bring members. A set without users stays until the next flush, so that a rule that is replaced by an equal one
 * does not tear its set down.
 */
import type { IpSetType } from "@calico-ts/dataplane-api";
import { protocolName } from "@calico-ts/net";
import { RefCounts } from "@calico-ts/std";
import type { MemberFacts } from "../intake/facts.ts";
import { LabelIndex } from "../labels/label-index.ts";
import { SetMembers } from "../labels/set-members.ts";
import type { IpSetDefinition } from "./ip-set-definition.ts";
import { ipSetId, ipSetType } from "./ip-set-definition.ts";
import { ServiceIndex } from "./service-index.ts";
import type { SliceFacts } from "./service-index.ts";

export interface IpSetSink {
  /** A set that was not there before, or not with these members. */
  setReplaced(id: string, type: IpSetType, members: readonly string[]): void;
  setChanged(id: string, added: readonly string[], removed: readonly string[]): void;
  setRemoved(id: string): void;
}

interface ActiveSet {
  readonly definition: IpSetDefinition;
  readonly members: SetMembers;
  announced: boolean;
}

export class MemberIndex {
  readonly #sets = new Map<string, ActiveSet>();
  readonly #users = new RefCounts<string>();
  readonly #items = new Map<string, MemberFacts>();
  readonly #dirty = new Set<string>();
  readonly #labels: LabelIndex;
  readonly #services: ServiceIndex;

  constructor() {
    this.#labels = new LabelIndex({
      matchStarted: (set, item) => this.#contribute(set, item, "add"),
      matchStopped: (set, item) => this.#contribute(set, item, "remove"),
    });
    this.#services = new ServiceIndex((set, member, verb) => this.#change(set, member, verb));
  }

  /** The set's id; it exists from now on. Each call needs a `release`. */
  use(definition: IpSetDefinition): string {
    const id = ipSetId(definition);
    this.#users.add(id);
    if (this.#sets.has(id)) return id;
    const holds = ipSetType(definition) === "net" ? "prefixes" : "opaque";
    this.#sets.set(id, { definition, members: new SetMembers(holds), announced: false });
    this.#dirty.add(id);
    if (definition.kind === "service") this.#services.watch(id, definition.service, definition.ports);
    else this.#labels.setSelector(id, definition.selector);
    return id;
  }

  release(id: string): void {
    if (this.#users.release(id)) this.#dirty.add(id);
  }

  setItem(id: string, facts: MemberFacts | undefined): void {
    const before = this.#items.get(id);
    if (facts === undefined) {
      this.#labels.deleteItem(id);
      this.#items.delete(id);
      return;
    }
    this.#items.set(id, facts);
    if (before !== undefined) this.#swap(id, before, facts);
    this.#labels.setItem(id, { labels: facts.labels, parents: facts.profiles });
  }

  setProfileLabels(profile: string, labels: ReadonlyMap<string, string> | undefined): void {
    this.#labels.setParentLabels(profile, labels);
  }

  setSlice(id: string, slice: SliceFacts | undefined): void {
    this.#services.setSlice(id, slice);
  }

  flush(sink: IpSetSink): void {
    for (const id of this.#dirty) {
      const set = this.#sets.get(id);
      if (set === undefined) continue;
      if (this.#users.count(id) === 0) {
        this.#sets.delete(id);
        if (set.definition.kind === "service") this.#services.unwatch(id);
        else this.#labels.deleteSelector(id);
        if (set.announced) sink.setRemoved(id);
        continue;
      }
      const { added, removed } = set.members.changes();
      if (!set.announced) sink.setReplaced(id, ipSetType(set.definition), added);
      else if (added.length + removed.length > 0) sink.setChanged(id, added, removed);
      set.announced = true;
    }
    this.#dirty.clear();
  }

  #contribute(set: string, item: string, verb: "add" | "remove"): void {
    const facts = this.#items.get(item);
    const definition = this.#sets.get(set)?.definition;
    if (facts === undefined || definition === undefined) return;
    for (const member of contributions(definition, facts)) this.#change(set, member, verb);
  }

  /** The item still matches the same sets, but brings other members. New ones first: what stays is never gone between. */
  #swap(id: string, before: MemberFacts, after: MemberFacts): void {
    for (const set of this.#labels.selectorsMatching(id)) {
      const definition = this.#sets.get(set)?.definition;
      if (definition === undefined) continue;
      for (const member of contributions(definition, after)) this.#change(set, member, "add");
      for (const member of contributions(definition, before)) this.#change(set, member, "remove");
    }
  }

  #change(set: string, member: string, verb: "add" | "remove"): void {
    this.#sets.get(set)?.members[verb](member);
    this.#dirty.add(set);
  }
}

function contributions(definition: IpSetDefinition, facts: MemberFacts): readonly string[] {
  if (definition.kind === "selector") return facts.nets;
  if (definition.kind === "service") return [];
  const { port: name, protocol: wanted } = definition;
  return facts.ports
    .filter((port) => port.name === name && (wanted === "any" || port.protocol === wanted))
    .flatMap(({ protocol, port }) => {
      const suffix = `${protocolName(protocol).toLowerCase()}:${port}`;
      return facts.nets.map((net) => `${net.slice(0, net.indexOf("/"))},${suffix}`);
    });
}
