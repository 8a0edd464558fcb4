/**
 * Standard input and output: with Bun's own files in the executable, with Node's calls where the sources run on Node (tests). Loading `node:fs` costs the executable a
 * millisecond of its four, `process.stdin` and `process.stdout` with all of Node's streams ten.
 */

/** What is used of Bun, which has types of its own that would replace Node's. */
interface BunFiles {
  readonly stdin: { text(): Promise<string> };
  readonly stdout: object;
  /** All of it, also into a pipe that takes it slowly. @throws Error with the system's `code` */
  write(destination: object, text: string): Promise<number>;
}

const bun = (globalThis as { readonly Bun?: BunFiles }).Bun;

/** All of it, until the other side ends. */
export async function readStandardInput(): Promise<string> {
  if (bun !== undefined) return bun.stdin.text();
  const { readFileSync } = await import("node:fs");
  return readFileSync(0, "utf8");
}

/** @throws Error with the system's `code` when nobody takes it */
export async function writeStandardOutput(text: string): Promise<void> {
  if (bun !== undefined) await bun.write(bun.stdout, text);
  else (await import("node:fs")).writeFileSync(1, text);
}

/** A last word, as far as anybody takes it. */
export async function writeStandardError(text: string): Promise<void> {
  try {
    (await import("node:fs")).writeFileSync(2, text);
  } catch {
    // nobody listens
  }
}
