/**
 * nf_tables over one socket. Transactions and listings of one client run one after the other, in the order they were
 * asked for; the kernel lets one transaction per namespace through at a time anyway.
 *
 * `send` returns after the kernel has checked and committed the whole batch, which takes a second for a hundred thousand
 * objects: large ones run on another thread.
 */
import { setImmediate as yieldToOthers } from "node:timers/promises";
import {
  type Answer,
  batchSize,
  describeCommand,
  elementsFromWire,
  encodeNftDump,
  encodeNftGetGeneration,
  type MessageView,
  NETLINK_FAMILY,
  type NftBatch,
  type NftChain,
  type NftCommand,
  type NftDumpRequest,
  type NftElement,
  type NftObject,
  type NftSet,
  type NftTable,
  NLMSG_ERROR,
  readAnswer,
  readNftMessage,
  startBatch,
  type WireElement,
} from "@calico-ts/netlink";
import { CalicoError } from "@calico-ts/std";
import type { NftClient, NftRuleEntry } from "./kernel.ts";
import { ERRNO, kernelError } from "./libc.ts";
import { answerError, NetlinkSocket } from "./netlink-socket.ts";

const ATTEMPTS = 5;
/** Bytes. The kernel is through with so little before another thread has woken up; only a change of a verdict map takes it milliseconds. */
const SMALL = 8192;

export class KernelNftClient implements NftClient, Disposable {
  readonly #socket: NetlinkSocket;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(netns: number) {
    this.#socket = new NetlinkSocket(NETLINK_FAMILY.NETFILTER, { netns });
  }

  [Symbol.dispose](): void {
    // A transaction under way keeps the descriptor until it is done: the number could be reused under its feet.
    void this.#turn.then(
      () => this.#socket[Symbol.dispose](),
      () => this.#socket[Symbol.dispose](),
    );
  }

  get portId(): number {
    return this.#socket.portId;
  }

  async apply(commands: readonly NftCommand[]): Promise<void> {
    if (commands.length === 0) return;
    await this.#inTurn(() => this.#transact(commands));
  }

  async #transact(commands: readonly NftCommand[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const first = this.#socket.takeSequence(1);
      const batch = await encode(commands, first);
      // Deleting no elements is no message at all.
      if (batch.lastSequence === first) return;
      this.#socket.takeSequence(batch.lastSequence - first + 1);
      this.#socket.drain();
      const what = `apply ${commands.length} nf_tables commands`;
      if (batch.bytes.length <= SMALL) this.#socket.send(batch.bytes, what);
      else await this.#socket.sendAsync(batch.bytes, what);
      const refusals = this.#answers(batch);
      const refusal = refusals[0];
      if (refusal === undefined) return;
      // The kernel loaded a module or lost a race against another transaction, and undid everything.
      const transient =
        refusal.errno === ERRNO.EAGAIN || refusal.errno === ERRNO.ERESTART || refusal.errno === ERRNO.EINTR;
      if (transient && attempt < ATTEMPTS) continue;
      throw refusedCommand(refusal, { batch, commands, refusals: refusals.length });
    }
  }

  /** Errors in the order of the commands; empty when the kernel acknowledged the last message. */
  #answers(batch: NftBatch): Answer[] {
    const errors: Answer[] = [];
    let acknowledged = false;
    for (let messages = this.#socket.receiveNow(); messages !== undefined; messages = this.#socket.receiveNow()) {
      // An overrun drops the last answers; the first errors, which we report, came earlier.
      if (messages === "overrun") continue;
      for (const message of messages) {
        if (message.type !== NLMSG_ERROR) continue;
        const answer = readAnswer(message);
        if (answer.sequence < batch.firstSequence || answer.sequence > batch.lastSequence) continue;
        if (answer.errno !== 0) errors.push(answer);
        else if (answer.sequence === batch.lastSequence) acknowledged = true;
      }
    }
    if (errors.length === 0 && !acknowledged) return [{ sequence: batch.firstSequence, errno: ERRNO.EAGAIN }];
    return errors.toSorted((a, b) => a.sequence - b.sequence);
  }

  async listTables(): Promise<NftTable[]> {
    const objects = await this.#dump({ what: "tables" }, "list tables");
    return objects.flatMap((object) => (object.kind === "table" ? [object.table] : []));
  }

  async listChains(table: NftTable): Promise<NftChain[]> {
    const objects = await this.#dump({ what: "chains", table }, `list chains of ${name(table)}`);
    return objects.flatMap((object) =>
      object.kind === "chain" && sameTable(object.table, table) ? [object.chain] : [],
    );
  }

  async listRules(table: NftTable, chain?: string): Promise<NftRuleEntry[]> {
    const request = chain === undefined ? { what: "rules" as const, table } : { what: "rules" as const, table, chain };
    const objects = await this.#dump(request, `list rules of ${name(table)}${chain === undefined ? "" : ` ${chain}`}`);
    return objects.flatMap((object) =>
      object.kind === "rule" && sameTable(object.table, table) && (chain === undefined || object.chain === chain)
        ? [{ chain: object.chain, handle: object.handle, rule: object.rule }]
        : [],
    );
  }

  async listSets(table: NftTable): Promise<NftSet[]> {
    const objects = await this.#dump({ what: "sets", table }, `list sets of ${name(table)}`);
    return objects.flatMap((object) => (object.kind === "set" && sameTable(object.table, table) ? [object.set] : []));
  }

  async listElements(table: NftTable, set: NftSet | string): Promise<NftElement[]> {
    const declaration = typeof set === "string" ? await this.#findSet(table, set) : set;
    const what = `list elements of ${name(table)} ${declaration.name}`;
    const objects = await this.#dump({ what: "elements", table, set: declaration.name }, what, true);
    const wire: WireElement[] = [];
    for (const object of objects) if (object.kind === "elements") wire.push(...object.elements);
    return elementsFromWire(declaration, wire);
  }

  async #findSet(table: NftTable, wanted: string): Promise<NftSet> {
    const set = (await this.listSets(table)).find((candidate) => candidate.name === wanted);
    if (set === undefined) throw noSuchSet(table, wanted);
    return set;
  }

  async generation(): Promise<number> {
    return this.#inTurn(() => {
      let id = 0;
      const answer = this.#socket.dump("read the nf_tables generation", encodeNftGetGeneration, (message) => {
        const object = readNftMessage(message);
        if (object.kind === "generation") id = object.id;
      });
      if (answer.errno !== 0) throw answerError(answer, "read the nf_tables generation");
      return Promise.resolve(id);
    });
  }

  #dump(request: NftDumpRequest, operation: string, mustExist = false): Promise<NftObject[]> {
    return this.#inTurn(async () => {
      const encode = (sequence: number): Uint8Array => encodeNftDump(request, sequence);
      const { answer, messages } = await this.#socket.dumpAsync(operation, encode);
      if (answer.errno === ERRNO.ENOENT && request.what === "elements" && mustExist) {
        throw noSuchSet(request.table, request.set);
      }
      // No such table or chain: it has nothing.
      if (answer.errno !== 0 && answer.errno !== ERRNO.ENOENT) throw answerError(answer, operation);
      return decodeAll(messages);
    });
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(action, action);
    this.#turn = result.catch(() => {});
    return result;
  }
}

const COMMANDS_PER_TURN = 1000;

async function encode(commands: readonly NftCommand[], firstSequence: number): Promise<NftBatch> {
  const builder = startBatch(firstSequence, batchSize(commands));
  for (const [index, command] of commands.entries()) {
    builder.add(command);
    if (index % COMMANDS_PER_TURN === COMMANDS_PER_TURN - 1) await yieldToOthers();
  }
  return builder.finish();
}

/** Gives way to timers and sockets between chunks of a long listing. */
async function decodeAll(messages: readonly MessageView[]): Promise<NftObject[]> {
  const objects: NftObject[] = [];
  for (const [index, message] of messages.entries()) {
    objects.push(readNftMessage(message));
    if (index % COMMANDS_PER_TURN === COMMANDS_PER_TURN - 1) await yieldToOthers();
  }
  return objects;
}

const name = (table: NftTable): string => `${table.family} ${table.name}`;
const sameTable = (a: NftTable, b: NftTable): boolean => a.family === b.family && a.name === b.name;

const noSuchSet = (table: NftTable, set: string): CalicoError =>
  new CalicoError("NOT_FOUND", `there is no set "${set}" in table ${name(table)}`, {
    detail: { table: table.name, set },
  });

interface Refused {
  readonly batch: NftBatch;
  readonly commands: readonly NftCommand[];
  readonly refusals: number;
}

function refusedCommand(refusal: Answer, context: Refused): CalicoError {
  const index = context.batch.commandOf(refusal.sequence);
  const command = index === undefined ? undefined : context.commands[index];
  const others = context.refusals > 1 ? `; ${context.refusals - 1} more commands were refused` : "";
  const what = command === undefined ? "commit the nf_tables transaction" : describeCommand(command);
  const operation = index === undefined ? what : `nf_tables command ${index} (${what})`;
  return kernelError(
    { errno: refusal.errno, operation, ...(refusal.extack === undefined ? {} : { extack: refusal.extack }) },
    {
      hint: `nothing of the transaction was applied${others}`,
      detail: index === undefined ? {} : { commandIndex: index, command: what },
    },
  );
}
