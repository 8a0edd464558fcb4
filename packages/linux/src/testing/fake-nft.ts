/**
 * nf_tables in memory, with the kernel's checks: what is named must exist, what is used cannot be deleted, a transaction is
 * all or nothing, an element with another verdict is no repetition, ranges do not overlap, jumps do not loop. Errors have the
 * form of the real client's. Commands go through the real encoder first, so what has no encoding fails here too.
 *
 * Not here: packets.
 */
import {
  compareBytes,
  DATA_TYPE_LENGTH,
  describeCommand,
  encodeBatch,
  type NftChain,
  type NftCommand,
  type NftElement,
  type NftExpr,
  type NftRule,
  type NftSet,
  type NftTable,
  type NftVerdict,
  normalizeRule,
  sameBytes,
} from "@calico-ts/netlink";
import { CalicoError, RefCounts, unreachable } from "@calico-ts/std";
import type { KernelEvent, NftClient, NftRuleEntry } from "../kernel.ts";
import { ERRNO, kernelError } from "../libc.ts";

const EBUSY = 16;
const ENFILE = 23;
const ELOOP = 40;

interface FakeChain {
  readonly chain: NftChain;
  readonly rules: readonly { readonly handle: bigint; readonly rule: NftRule }[];
}
interface FakeSet {
  readonly set: NftSet;
  readonly elements: ReadonlyMap<string, NftElement>;
}
/** Immutable below the maps: a transaction works on copies of the maps and replaces what it changes. */
interface FakeTable {
  readonly table: NftTable;
  readonly chains: Map<string, FakeChain>;
  readonly sets: Map<string, FakeSet>;
}

class Refusal extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super("refused");
    this.errno = errno;
  }
}
const refuse = (errno: number): never => {
  throw new Refusal(errno);
};

const keyOf = (table: NftTable): string => `${table.family} ${table.name}`;
const elementKey = (element: NftElement): string => String(element.key);

export class FakeNft implements NftClient {
  readonly portId = 4711;
  /** Every batch that was committed, in order. */
  readonly committed: (readonly NftCommand[])[] = [];
  #tables = new Map<string, FakeTable>();
  #generation = 0;
  #handle = 0n;
  #listeners = new Set<(event: KernelEvent) => void>();

  apply(commands: readonly NftCommand[]): Promise<void> {
    return this.applyAs(commands, this.portId);
  }

  /** A change by somebody else: notifications carry another port id. */
  async applyAs(commands: readonly NftCommand[], portId: number): Promise<void> {
    await Promise.resolve();
    if (commands.length === 0) return;
    encodeBatch(commands, 1);
    const before = this.#tables;
    const after = new Map([...before].map(([key, table]) => [key, copyTable(table)]));
    commands.forEach((command, index) => {
      try {
        this.#run(after, command);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        throw refusedCommand(command, index, error.errno);
      }
    });
    const looping = [...after.values()].some(hasLoop);
    if (looping) throw kernelError({ errno: ELOOP, operation: "commit the nf_tables transaction" });
    this.#tables = after;
    this.#generation++;
    this.committed.push(commands);
    const tables = [...new Map(commands.map((command) => [keyOf(command.table), command.table])).values()];
    const event: KernelEvent = { kind: "nftables", generation: this.#generation, tables, portId };
    for (const listener of this.#listeners) queueMicrotask(() => listener(event));
  }

  listen(onEvent: (event: KernelEvent) => void): Disposable {
    this.#listeners.add(onEvent);
    return { [Symbol.dispose]: () => void this.#listeners.delete(onEvent) };
  }

  async listTables(): Promise<NftTable[]> {
    return [...this.#tables.values()].map(({ table }) => table);
  }

  async listChains(table: NftTable): Promise<NftChain[]> {
    return [...(this.#tables.get(keyOf(table))?.chains.values() ?? [])].map(({ chain }) => chain);
  }

  async listRules(table: NftTable, wanted?: string): Promise<NftRuleEntry[]> {
    const chains = [...(this.#tables.get(keyOf(table))?.chains.values() ?? [])];
    return chains
      .filter(({ chain }) => wanted === undefined || wanted === chain.name)
      .flatMap(({ chain, rules }) =>
        rules.map(({ handle, rule }) => ({ chain: chain.name, handle, rule: asDumped(rule) })),
      );
  }

  async listSets(table: NftTable): Promise<NftSet[]> {
    return [...(this.#tables.get(keyOf(table))?.sets.values() ?? [])].map(({ set }) => set);
  }

  async listElements(table: NftTable, set: NftSet | string): Promise<NftElement[]> {
    const name = typeof set === "string" ? set : set.name;
    const found = this.#tables.get(keyOf(table))?.sets.get(name);
    if (found === undefined) {
      throw new CalicoError("NOT_FOUND", `there is no set "${name}" in table ${keyOf(table)}`, {
        detail: { table: table.name, set: name },
      });
    }
    return [...found.elements.values()].toSorted((a, b) => compareBytes(a.key, b.key));
  }

  async generation(): Promise<number> {
    return this.#generation;
  }

  #run(tables: Map<string, FakeTable>, command: NftCommand): void {
    const key = keyOf(command.table);
    if (command.do === "add-table") {
      if (!tables.has(key)) tables.set(key, { table: command.table, chains: new Map(), sets: new Map() });
      return;
    }
    if (command.do === "delete-table") {
      if (!tables.delete(key) && command.ifExists !== true) refuse(ERRNO.ENOENT);
      return;
    }
    const table = tables.get(key) ?? refuse(ERRNO.ENOENT);
    switch (command.do) {
      case "add-chain":
        return addChain(table, command.chain);
      case "flush-chain":
        return setRules(table, command.chain, () => []);
      case "delete-chain":
        return deleteChain(table, command.chain);
      case "add-rule":
      case "insert-rule":
      case "replace-rule":
      case "delete-rule":
        return this.#runRule(table, command);
      case "add-set":
        return addSet(table, command.set);
      case "delete-set":
        if (!table.sets.has(command.set)) refuse(ERRNO.ENOENT);
        if (references(table).sets.count(command.set) > 0) refuse(EBUSY);
        table.sets.delete(command.set);
        return;
      case "flush-set":
        return changeElements(table, command.set, (elements) => elements.clear());
      case "add-elements":
        return addElements(table, command);
      case "delete-elements":
        return changeElements(table, command.set.name, (elements) => {
          for (const element of command.elements) if (!elements.delete(elementKey(element))) refuse(ERRNO.ENOENT);
        });
      default:
        return unreachable(command);
    }
  }

  #runRule(
    table: FakeTable,
    command: Extract<NftCommand, { do: "add-rule" | "insert-rule" | "replace-rule" | "delete-rule" }>,
  ): void {
    if (command.do !== "delete-rule") checkReferences(table, command.rule);
    setRules(table, command.chain, (rules) => {
      if (command.do === "add-rule") return [...rules, { handle: ++this.#handle, rule: command.rule }];
      const handle = command.do === "insert-rule" ? command.beforeHandle : command.handle;
      const at = handle === undefined ? 0 : rules.findIndex((entry) => entry.handle === handle);
      if (at < 0) refuse(ERRNO.ENOENT);
      if (command.do === "delete-rule") return rules.toSpliced(at, 1);
      // A replaced rule has a new handle.
      const entry = { handle: ++this.#handle, rule: command.rule };
      return rules.toSpliced(at, command.do === "replace-rule" ? 1 : 0, entry);
    });
  }
}

const copyTable = (table: FakeTable): FakeTable => ({
  table: table.table,
  chains: new Map(table.chains),
  sets: new Map(table.sets),
});

function addChain(table: FakeTable, chain: NftChain): void {
  const existing = table.chains.get(chain.name);
  if (existing === undefined) {
    table.chains.set(chain.name, { chain, rules: [] });
    return;
  }
  const { base: have } = existing.chain;
  if (chain.base === undefined) return;
  const same = have?.type === chain.base.type && have.hook === chain.base.hook && have.priority === chain.base.priority;
  if (!same) refuse(ERRNO.EEXIST);
  table.chains.set(chain.name, { chain, rules: existing.rules });
}

function deleteChain(table: FakeTable, name: string): void {
  setRules(table, name, () => []);
  if (references(table).chains.count(name) > 0) refuse(EBUSY);
  table.chains.delete(name);
}

function setRules(table: FakeTable, name: string, change: (rules: FakeChain["rules"]) => FakeChain["rules"]): void {
  const entry = table.chains.get(name) ?? refuse(ERRNO.ENOENT);
  table.chains.set(name, { chain: entry.chain, rules: change(entry.rules) });
}

function addSet(table: FakeTable, set: NftSet): void {
  const existing = table.sets.get(set.name)?.set;
  if (existing === undefined) {
    table.sets.set(set.name, { set, elements: new Map() });
    return;
  }
  const same =
    existing.keyTypes.join() === set.keyTypes.join() &&
    existing.mapTo === set.mapTo &&
    (existing.interval ?? false) === (set.interval ?? false);
  if (!same) refuse(ERRNO.EEXIST);
}

function changeElements(table: FakeTable, name: string, change: (elements: Map<string, NftElement>) => void): void {
  const entry = table.sets.get(name) ?? refuse(ERRNO.ENOENT);
  const elements = new Map(entry.elements);
  change(elements);
  table.sets.set(name, { set: entry.set, elements });
}

function addElements(table: FakeTable, command: Extract<NftCommand, { do: "add-elements" }>): void {
  const name = command.set.name;
  const declared = table.sets.get(name)?.set ?? refuse(ERRNO.ENOENT);
  changeElements(table, name, (elements) => {
    for (const element of command.elements) {
      if ((declared.mapTo === undefined) !== (element.value === undefined)) refuse(ERRNO.EINVAL);
      if (element.value !== undefined && !(element.value instanceof Uint8Array)) checkVerdict(table, element.value);
      const existing = elements.get(elementKey(element));
      if (existing !== undefined) {
        if (!sameData(existing.value, element.value) || !sameEnd(existing, element)) refuse(ERRNO.EEXIST);
        continue;
      }
      if (declared.interval === true && overlapsAny(declared, elements, element)) refuse(ERRNO.EEXIST);
      if (declared.size !== undefined && elements.size >= declared.size) refuse(ENFILE);
      elements.set(elementKey(element), element);
    }
  });
}

function overlapsAny(set: NftSet, elements: ReadonlyMap<string, NftElement>, element: NftElement): boolean {
  for (const other of elements.values()) if (overlap(set, other, element)) return true;
  return false;
}

/** Concatenations overlap when every one of their fields does. */
function overlap(set: NftSet, a: NftElement, b: NftElement): boolean {
  const lone = set.keyTypes.length === 1;
  let at = 0;
  return set.keyTypes.every((type) => {
    const length = DATA_TYPE_LENGTH[type];
    const field = (key: Uint8Array): Uint8Array => key.subarray(at, at + length);
    const meets =
      compareBytes(field(a.key), field(b.keyEnd ?? b.key)) <= 0 &&
      compareBytes(field(b.key), field(a.keyEnd ?? a.key)) <= 0;
    at += lone ? length : (length + 3) & ~3;
    return meets;
  });
}

const sameEnd = (a: NftElement, b: NftElement): boolean => sameBytes(a.keyEnd ?? a.key, b.keyEnd ?? b.key);

function sameData(a: NftElement["value"], b: NftElement["value"]): boolean {
  if (a instanceof Uint8Array || b instanceof Uint8Array) {
    return a instanceof Uint8Array && b instanceof Uint8Array && sameBytes(a, b);
  }
  if (a === undefined || b === undefined) return a === b;
  return a.kind === b.kind && targetOf(a) === targetOf(b);
}

const targetOf = (verdict: NftVerdict): string | undefined => ("chain" in verdict ? verdict.chain : undefined);

function checkVerdict(table: FakeTable, verdict: NftVerdict): void {
  const target = targetOf(verdict);
  if (target === undefined) return;
  const chain = table.chains.get(target) ?? refuse(ERRNO.ENOENT);
  // Base chains cannot be jumped to.
  if (chain.chain.base !== undefined) refuse(ERRNO.EOPNOTSUPP);
}

function checkReferences(table: FakeTable, rule: NftRule): void {
  for (const expr of rule.exprs) {
    if (expr.kind === "verdict") checkVerdict(table, expr.verdict);
    if (expr.kind === "lookup") {
      const { set } = table.sets.get(expr.set) ?? refuse(ERRNO.ENOENT);
      if ((expr.dreg !== undefined) !== (set.mapTo !== undefined)) refuse(ERRNO.EINVAL);
    }
  }
}

interface References {
  readonly chains: RefCounts<string>;
  readonly sets: RefCounts<string>;
}

function references(table: FakeTable): References {
  const counts: References = { chains: new RefCounts(), sets: new RefCounts() };
  for (const { rules } of table.chains.values()) {
    for (const { rule } of rules) for (const expr of rule.exprs) countExpr(counts, expr);
  }
  for (const { elements } of table.sets.values()) {
    for (const { value } of elements.values()) {
      const target = value === undefined || value instanceof Uint8Array ? undefined : targetOf(value);
      if (target !== undefined) counts.chains.add(target);
    }
  }
  return counts;
}

function countExpr(counts: References, expr: NftExpr): void {
  if (expr.kind === "lookup") counts.sets.add(expr.set);
  const target = expr.kind === "verdict" ? targetOf(expr.verdict) : undefined;
  if (target !== undefined) counts.chains.add(target);
}

/** A jump, directly or through a verdict map, back to a chain on the way. */
function hasLoop(table: FakeTable): boolean {
  const done = new Set<string>();
  const visit = (name: string, path: ReadonlySet<string>): boolean => {
    if (path.has(name)) return true;
    if (done.has(name)) return false;
    const next = new Set([...path, name]);
    for (const target of targetsOf(table, name)) if (visit(target, next)) return true;
    done.add(name);
    return false;
  };
  return [...table.chains.keys()].some((name) => visit(name, new Set()));
}

function targetsOf(table: FakeTable, name: string): Set<string> {
  const targets = new Set<string>();
  const add = (verdict: NftVerdict): void => {
    const target = targetOf(verdict);
    if (target !== undefined) targets.add(target);
  };
  for (const { rule } of table.chains.get(name)?.rules ?? []) {
    for (const expr of rule.exprs) {
      if (expr.kind === "verdict") add(expr.verdict);
      if (expr.kind !== "lookup" || expr.dreg !== 0) continue;
      for (const { value } of table.sets.get(expr.set)?.elements.values() ?? []) {
        if (value !== undefined && !(value instanceof Uint8Array)) add(value);
      }
    }
  }
  return targets;
}

/** As the kernel hands it back: normal form, counters present. */
function asDumped(rule: NftRule): NftRule {
  const { exprs, comment } = normalizeRule(rule);
  const dumped = exprs.map((expr): NftExpr => (expr.kind === "counter" ? { bytes: 0n, packets: 0n, ...expr } : expr));
  return comment === undefined ? { exprs: dumped } : { exprs: dumped, comment };
}

function refusedCommand(command: NftCommand, index: number, errno: number): CalicoError {
  const what = describeCommand(command);
  return kernelError(
    { errno, operation: `nf_tables command ${index} (${what})` },
    { hint: "nothing of the transaction was applied", detail: { commandIndex: index, command: what } },
  );
}
