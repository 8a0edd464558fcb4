/**
 * Speakers that only send: sessions to one receiver from as many addresses as wanted, each with messages made beforehand, so that the sender costs next to nothing while
 * the receiver works. They note how long the receiver is silent: keepalives that come late show there.
 */
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { awaitConnected, connectTcp } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { errorText } from "@calico-ts/std";
import { frame, type Message, openOf } from "./routes.ts";

export interface SenderOptions {
  readonly netns: string;
  readonly source: string;
  readonly receiver: string;
  readonly as: number;
  readonly identifier: number;
  readonly holdSeconds: number;
  readonly gracefulRestart?: boolean;
}

const KEEPALIVE = frame("keepalive");

export class Sender implements Disposable {
  readonly #options: SenderOptions;
  readonly #keepalives: NodeJS.Timeout;
  #socket: Socket | undefined;
  #closed = false;
  #lastHeard = 0;
  #pending: Buffer = Buffer.alloc(0);
  #up = false;
  /** Longest time between two messages of the receiver, less the keepalive interval. */
  latenessMs = 0;
  messagesHeard = 0;
  lastFailure = "";

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#keepalives = setInterval(() => this.#tick(), (options.holdSeconds * 1000) / 3);
    void this.#connect();
  }

  get isUp(): boolean {
    return this.#up;
  }

  /** Writes messages; resolves when the kernel has taken all of them. */
  async send(messages: Message): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined) throw new Error("the session is not up");
    if (!socket.write(messages)) await new Promise((resolve) => socket.once("drain", resolve));
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearInterval(this.#keepalives);
    this.#socket?.destroy();
  }

  async #connect(): Promise<void> {
    const { netns, source, receiver } = this.#options;
    while (!this.#closed) {
      try {
        const fd = connectTcp({
          netns,
          address: parseAddress(receiver),
          port: 179,
          source: { address: parseAddress(source) },
        });
        try {
          await awaitConnected(fd, 2000);
        } catch (error) {
          closeSync(fd);
          throw error;
        }
        await this.#run(new Socket({ fd, readable: true, writable: true }));
      } catch (error) {
        // Not there yet, or gone: again.
        this.lastFailure = errorText(error);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  #run(socket: Socket): Promise<void> {
    this.#socket = socket;
    this.#pending = Buffer.alloc(0);
    socket.setNoDelay(true);
    socket.write(openOf(this.#options));
    return new Promise((resolve) => {
      socket.on("data", (bytes) => this.#hear(bytes));
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#up = false;
        resolve();
      });
    });
  }

  #tick(): void {
    if (!this.#up) return;
    this.#socket?.write(KEEPALIVE);
    this.#noteSilence();
  }

  #noteSilence(): void {
    const late = performance.now() - this.#lastHeard - (this.#options.holdSeconds * 1000) / 3;
    this.latenessMs = Math.max(this.latenessMs, late);
  }

  #hear(bytes: Buffer): void {
    if (this.#up) this.#noteSilence();
    this.#lastHeard = performance.now();
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    while (this.#pending.length >= 19) {
      const length = this.#pending.readUInt16BE(16);
      if (this.#pending.length < length) return;
      const type = this.#pending[18];
      this.#pending = this.#pending.subarray(length);
      this.messagesHeard++;
      if (type === 1) this.#socket?.write(KEEPALIVE);
      else if (type === 4) this.#up = true;
    }
  }
}
