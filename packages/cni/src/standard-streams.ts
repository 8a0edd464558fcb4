/** Standard input and output by their descriptors: `process.stdin` and `process.stdout` load all of Node's streams, 10 ms on each pod start. */
import { fstatSync, readSync, writeFileSync } from "node:fs";

const CHUNK_BYTES = 64 * 1024;
/** How long to leave a caller alone whose pipe is non-blocking and empty. */
const POLL_MS = 2;

/** All of it; undefined for a terminal, where nobody would ever end it. */
export async function readStandardInput(): Promise<string | undefined> {
  // Terminals are character devices, and so is /dev/null, which is empty.
  if (isCharacterDevice()) {
    const { isatty } = await import("node:tty");
    if (isatty(0)) return undefined;
  }
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(CHUNK_BYTES);
  let text = "";
  for (;;) {
    try {
      const count = readSync(0, chunk);
      if (count === 0) return text + decoder.decode();
      text += decoder.decode(chunk.subarray(0, count), { stream: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

export function writeStandardOutput(text: string): void {
  writeFileSync(1, text);
}

/** A last word, as far as anybody takes it. */
export function writeStandardError(text: string): void {
  try {
    writeFileSync(2, text);
  } catch {
    // nobody listens
  }
}

function isCharacterDevice(): boolean {
  return fstatSync(0).isCharacterDevice();
}
