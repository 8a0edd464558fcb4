/**
 * Adj-RIBs-Out, one per group of peers with equal export terms. The group decides once per destination what its members are told and encodes it once; a
 * member differs from its group only in that it is not told its own routes. So what a member knows follows from the group's records: a record whose source
 * is not the member.
 *
 * There is no MRAI timer: changes gather until `flush`, and a destination that changes several times in between is told once. A member that joins, or asks
 * for a refresh, gets everything in portions (`pump`), while changes go to it like to everybody; hearing a route twice does no harm. A congested member
 * is skipped, and what it missed is remembered by destination, so its debt is bounded by the table. Debts are paid by `pump` alone: what is queued stands until
 * the next `flush`, which sends withdrawals first, so nothing may be queued before the decisions that it has to reflect.
 */
import type { AttributeContext } from "../wire/attributes/table.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { familyNumbers } from "../wire/family.ts";
import { encodeMessage } from "../wire/message.ts";
import { encodeRouteRefresh } from "../wire/route-refresh.ts";
import type { UpdateShape } from "../wire/update.ts";
import { announcementShape, encodeEndOfRib, withdrawalShape } from "../wire/update.ts";
import type { AttributeSet } from "./attribute-set.ts";
import type { ExportTerms } from "./export-policy.ts";
import { ExportPolicy } from "./export-policy.ts";
import type { Destination, ExportRecord, Source } from "./route.ts";
import type { RibTable } from "./table.ts";

export type EmitFrames = (to: Source, frames: readonly Uint8Array[], routes: number) => void;

interface Cursor {
  readonly rest: Iterator<Destination>;
  /** initial: the member knows nothing yet. */
  readonly refresh: "plain" | "enhanced" | "initial";
  begun: boolean;
}

interface Member {
  readonly source: Source;
  /** What is left of the whole table. */
  cursor: Cursor | undefined;
  /** A refresh that was asked for while the first telling goes on: its demarcation may not come before End-of-RIB (RFC 7313 section 3.2). */
  again: "plain" | "enhanced" | undefined;
  congested: boolean;
  /** Destinations with path identifiers that it has to be told, as they are by then. */
  owed: Debt;
}

type Debt = Map<Destination, Set<number>>;

/** What the group of a member leaves to its next one. */
export interface HandOver {
  readonly refresh: Cursor["refresh"];
  readonly congested: boolean;
  /** What the member knows, or missed. */
  readonly owed: Debt;
}

/** Routes with equal attributes for the same recipients. */
interface Bundle {
  readonly set: AttributeSet | undefined;
  readonly except: Source | undefined;
  readonly only: Source | undefined;
  readonly destinations: Destination[];
  readonly pathIds: number[];
}

export class ExportGroup {
  readonly policy: ExportPolicy;
  readonly #table: RibTable;
  readonly #members = new Map<Source, Member>();
  readonly #bundles = new Map<AttributeSet | undefined, Bundle[]>();
  readonly #context: AttributeContext;
  /** How many records there are, by where their routes come from. */
  readonly #counts = new Map<Source, number>();

  constructor(terms: ExportTerms, table: RibTable) {
    this.policy = new ExportPolicy(terms);
    this.#table = table;
    const families: RoutedFamily[] = terms.addPath ? [terms.family] : [];
    this.#context = { fourOctetAs: terms.fourOctetAs, addPath: new Set(families), internal: terms.internal };
  }

  get terms(): ExportTerms {
    return this.policy.terms;
  }

  get size(): number {
    return this.#members.size;
  }

  get hasWork(): boolean {
    if (this.#bundles.size > 0) return true;
    for (const member of this.#members.values()) {
      if (!member.congested && (member.cursor !== undefined || member.owed.size > 0)) return true;
    }
    return false;
  }

  join(source: Source): void {
    this.#members.set(source, {
      source,
      cursor: { rest: this.#table.destinations(), refresh: "initial", begun: false },
      again: undefined,
      congested: false,
      owed: new Map(),
    });
  }

  /** The member goes to another group while its session stands. */
  handOver(source: Source): HandOver {
    const { congested = false, cursor, owed = [] } = this.#members.get(source) ?? {};
    const all: Debt = new Map(owed);
    for (const destination of this.#table.destinations()) {
      for (const { pathId } of this.advertised(source, destination)) owe(all, destination, pathId);
    }
    return { refresh: cursor?.refresh ?? "plain", congested, owed: all };
  }

  /** It gets everything, and withdrawals of what it should no longer know. What its old group was telling it ends as it would have there. */
  takeOver(source: Source, { refresh, congested, owed }: HandOver): void {
    const cursor: Cursor = { rest: this.#table.destinations(), refresh, begun: false };
    this.#members.set(source, { source, cursor, again: undefined, congested, owed });
  }

  /** True when the group is empty now. Its records go with the last member. */
  leave(source: Source): boolean {
    this.#members.delete(source);
    if (this.#members.size > 0) return false;
    this.#bundles.clear();
    this.#counts.clear();
    for (const destination of this.#table.destinations()) {
      if (destination.exports === undefined) continue;
      setRecords(destination, this, []);
      this.#table.mark(destination);
    }
    return true;
  }

  /** Everything again, for one member (RFC 2918, RFC 7313). */
  resend(source: Source, enhanced: boolean, emit: EmitFrames): void {
    const member = this.#members.get(source);
    if (member === undefined) return;
    member.again = undefined;
    if (member.cursor?.refresh === "initial") {
      member.again = enhanced ? "enhanced" : "plain";
      return;
    }
    if (enhanced) emit(source, [this.#demarcation("begin")], 0);
    member.cursor = { rest: this.#table.destinations(), refresh: enhanced ? "enhanced" : "plain", begun: true };
  }

  setCongested(source: Source, congested: boolean): void {
    const member = this.#members.get(source);
    if (member !== undefined) member.congested = congested;
  }

  /** How many routes the member is told: it has them, or they are on their way. */
  count(member: Source): number {
    let sum = 0;
    for (const [source, count] of this.#counts) if (source !== member) sum += count;
    return sum;
  }

  #count(source: Source, change: number): void {
    const count = (this.#counts.get(source) ?? 0) + change;
    if (count === 0) this.#counts.delete(source);
    else this.#counts.set(source, count);
  }

  /** What the member knows about a destination now. */
  advertised(source: Source, destination: Destination): readonly ExportRecord[] {
    return recordsOf(destination, this).filter((record) => record.source !== source);
  }

  /** Brings the group's records of a destination up to date and queues what members have to be told. True when something changed. */
  update(destination: Destination): boolean {
    if (this.#members.size === 0) return false;
    const before = destination.exports === undefined ? NONE : recordsOf(destination, this);
    const after = this.#wanted(destination);
    if (before.length === 0 && after.length === 0) return false;
    let changed = false;
    for (const record of after) {
      const old = before.find((one) => one.pathId === record.pathId);
      if (old !== undefined && old.source === record.source && old.set.same(record.set)) continue;
      changed = true;
      this.#queue({ set: record.set, except: record.source }, destination, record.pathId);
      // The new source knew the old route; it gets no new one, so the old one goes.
      if (old !== undefined && old.source !== record.source) {
        this.#queue({ set: undefined, only: record.source }, destination, record.pathId);
      }
    }
    for (const old of before) {
      if (after.some((one) => one.pathId === old.pathId)) continue;
      changed = true;
      this.#queue({ set: undefined, except: old.source }, destination, old.pathId);
    }
    if (changed) {
      for (const { source } of before) this.#count(source, -1);
      for (const { source } of after) this.#count(source, 1);
      setRecords(destination, this, after);
    }
    return changed;
  }

  /** Carries on with whole tables for members that wait for them; `limit` destinations at most. */
  pump(limit: number, emit: EmitFrames): void {
    for (const member of this.#members.values()) {
      const { cursor } = member;
      if (member.congested) continue;
      this.#pay(member);
      if (cursor === undefined) continue;
      if (!cursor.begun) {
        // What is queued now is in the records, so this member gets it with the rest.
        this.flush(emit);
        cursor.begun = true;
      }
      let left = limit;
      let next = cursor.rest.next();
      for (; next.done !== true; next = cursor.rest.next()) {
        const destination = next.value;
        if (!this.update(destination)) {
          for (const record of recordsOf(destination, this)) this.#tell(member, destination, record.pathId);
        }
        left--;
        if (left <= 0) break;
      }
      if (next.done !== true) continue;
      this.flush(emit);
      member.cursor = undefined;
      if (cursor.refresh === "initial")
        emit(member.source, [encodeMessage("update", encodeEndOfRib(this.terms.family))], 0);
      if (cursor.refresh === "enhanced") emit(member.source, [this.#demarcation("end")], 0);
      if (member.again !== undefined) this.resend(member.source, member.again === "enhanced", emit);
    }
  }

  /** Encodes and hands out what is queued, withdrawals first. */
  flush(emit: EmitFrames): void {
    if (this.#bundles.size === 0) return;
    for (const bundle of this.#bundles.get(undefined) ?? []) this.#send(bundle, emit);
    this.#bundles.delete(undefined);
    for (const list of this.#bundles.values()) for (const bundle of list) this.#send(bundle, emit);
    this.#bundles.clear();
  }

  #wanted(destination: Destination): readonly Omit<ExportRecord, "next">[] {
    // A member alone in its group is not told its own routes, so nobody is; when another joins, `pump` sees to them.
    const sole = this.#members.size === 1 ? this.#members.keys().next().value : undefined;
    if (!this.terms.addPath) {
      const { best, bestSet } = destination;
      if (best === undefined || bestSet === undefined || best.source === sole) return [];
      const verdict = this.policy.judge(destination, bestSet, best.source);
      return verdict.accept ? [{ group: this, pathId: 0, set: verdict.set, source: best.source }] : [];
    }
    return this.#table.candidates(destination).flatMap(({ route, set }) => {
      if (route.source === sole) return [];
      const verdict = this.policy.judge(destination, set, route.source);
      if (!verdict.accept) return [];
      if (route.exportId === 0) route.exportId = freeExportId(destination);
      return [{ group: this, pathId: route.exportId, set: verdict.set, source: route.source }];
    });
  }

  /** What comes with the whole table anyway is left to that. */
  #pay(member: Member): void {
    const { cursor, owed } = member;
    if (owed.size === 0) return;
    member.owed = new Map();
    const comes = cursor?.begun === false;
    for (const [owing, pathIds] of owed) {
      // One that was given up and heard of again since is another object.
      const destination = this.#table.find(owing.address, owing.length) ?? owing;
      this.update(destination);
      const records = comes ? this.advertised(member.source, destination) : NONE;
      for (const pathId of pathIds) {
        if (!records.some((record) => record.pathId === pathId)) this.#tell(member, destination, pathId);
      }
    }
  }

  /** Queues the current state of one path for one member. */
  #tell(member: Member, destination: Destination, pathId: number): void {
    const record = recordsOf(destination, this).find((one) => one.pathId === pathId);
    const known = record !== undefined && record.source !== member.source;
    this.#queue({ set: known ? record.set : undefined, only: member.source }, destination, pathId);
  }

  #queue(
    to: { readonly set: AttributeSet | undefined; readonly except?: Source; readonly only?: Source },
    destination: Destination,
    pathId: number,
  ): void {
    const { set, except, only } = to;
    let list = this.#bundles.get(set);
    if (list === undefined) {
      list = [];
      this.#bundles.set(set, list);
    }
    let bundle = list.find((one) => one.except === except && one.only === only);
    if (bundle === undefined) {
      bundle = { set, except, only, destinations: [], pathIds: [] };
      list.push(bundle);
    }
    bundle.destinations.push(destination);
    bundle.pathIds.push(pathId);
  }

  #send(bundle: Bundle, emit: EmitFrames): void {
    const { terms } = this;
    const recipients: Source[] = [];
    for (const member of this.#members.values()) {
      if (member.source === bundle.except || (bundle.only !== undefined && member.source !== bundle.only)) continue;
      if (member.cursor !== undefined && !member.cursor.begun && bundle.only === undefined) continue;
      if (!member.congested) recipients.push(member.source);
      else for (const [at, one] of bundle.destinations.entries()) owe(member.owed, one, bundle.pathIds[at] ?? 0);
    }
    if (recipients.length === 0) return;
    const withdrawal = withdrawalShape(terms.family, terms);
    const wanted =
      bundle.set === undefined
        ? withdrawal
        : announcementShape(terms.family, bundle.set.attributes, this.#context, terms);
    // Attributes that leave no room for a prefix cannot be told; what was told before must not stand (RFC 8654 section 6).
    const shape = wanted.room < LARGEST_NLRI ? withdrawal : wanted;
    const frames = pack(bundle, shape, terms.addPath).map((nlri) => encodeMessage("update", shape.wrap(nlri)));
    for (const source of recipients) emit(source, frames, bundle.destinations.length);
  }

  #demarcation(kind: "begin" | "end"): Uint8Array {
    return encodeMessage("route-refresh", encodeRouteRefresh({ ...familyNumbers(this.terms.family), kind }));
  }
}

const NONE: readonly ExportRecord[] = [];

/** Path identifier, length octet, sixteen octets. */
const LARGEST_NLRI = 21;

function pack({ destinations, pathIds }: Bundle, { room }: UpdateShape, addPath: boolean): Uint8Array[] {
  const out: Uint8Array[] = [];
  let bytes = new Uint8Array(Math.min(room, destinations.length * LARGEST_NLRI));
  let at = 0;
  for (const [index, { address, length }] of destinations.entries()) {
    const size = 1 + ((length + 7) >> 3) + (addPath ? 4 : 0);
    if (at + size > room) {
      out.push(bytes.subarray(0, at));
      bytes = new Uint8Array(Math.min(room, (destinations.length - index) * LARGEST_NLRI));
      at = 0;
    }
    if (addPath) {
      const id = pathIds[index] ?? 0;
      for (let byte = 0; byte < 4; byte++) bytes[at++] = id >>> (24 - 8 * byte);
    }
    bytes[at++] = length;
    const octets = (length + 7) >> 3;
    for (let octet = 0; octet < octets; octet++) {
      bytes[at++] =
        typeof address === "number"
          ? address >>> (24 - 8 * octet)
          : Number((address >> BigInt(120 - 8 * octet)) & 0xffn);
    }
  }
  if (at > 0) out.push(bytes.subarray(0, at));
  return out;
}

function owe(debt: Debt, destination: Destination, pathId: number): void {
  let ids = debt.get(destination);
  if (ids === undefined) {
    ids = new Set();
    debt.set(destination, ids);
  }
  ids.add(pathId);
}

function recordsOf(destination: Destination, group: object): ExportRecord[] {
  const out: ExportRecord[] = [];
  for (let record = destination.exports; record !== undefined; record = record.next) {
    if (record.group === group) out.push(record);
  }
  return out;
}

function setRecords(destination: Destination, group: object, records: readonly Omit<ExportRecord, "next">[]): void {
  let list: ExportRecord | undefined;
  for (let record = destination.exports; record !== undefined; record = record.next) {
    if (record.group !== group) list = { ...record, next: list };
  }
  for (const { pathId, set, source } of records) list = { group, pathId, set, source, next: list };
  destination.exports = list;
}

/** Stays with the route as long as it lives. */
function freeExportId(destination: Destination): number {
  const taken = new Set<number>();
  for (let route = destination.routes; route !== undefined; route = route.next) taken.add(route.exportId);
  // An identifier whose withdrawal is still to be told is not free.
  for (let record = destination.exports; record !== undefined; record = record.next) taken.add(record.pathId);
  let id = 1;
  while (taken.has(id)) id++;
  return id;
}
