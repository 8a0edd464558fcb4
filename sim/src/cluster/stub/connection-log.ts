/** The last lines a stub pod said: a bounded ring, with listeners for `kubectl logs -f`. */
export interface LogLine {
  readonly atMs: number;
  readonly text: string;
}

const CAPACITY = 200;

export class ConnectionLog {
  #lines: LogLine[] = [];
  #listeners: Set<(line: LogLine) => void> | undefined;

  append(text: string): void {
    const line = { atMs: Date.now(), text };
    this.#lines.push(line);
    // Cut seldom and by half, not one at a time.
    if (this.#lines.length > 2 * CAPACITY) this.#lines = this.#lines.slice(-CAPACITY);
    for (const listener of this.#listeners ?? []) listener(line);
  }

  lines(): readonly LogLine[] {
    return this.#lines.slice(-CAPACITY);
  }

  follow(listener: (line: LogLine) => void): () => void {
    this.#listeners ??= new Set();
    this.#listeners.add(listener);
    return () => this.#listeners?.delete(listener);
  }
}
