/** What became of streams of numbered packets: pure bookkeeping, time given in milliseconds. */

/** How far each flow had come at one moment. */
export type Mark = readonly number[];

export interface FlowLoss {
  readonly flow: number;
  readonly lost: number;
  /** From the first of the longest row of lost packets to the next one that was answered. */
  readonly gapMs: number;
  /** When that row began. */
  readonly at: number;
}

export interface Loss {
  readonly sent: number;
  readonly lost: number;
  readonly longestGapMs: number;
  /** Packets a second of the flow that had the fewest. */
  readonly rate: number;
  /** Flows that lost something, the longest gap first. */
  readonly flows: readonly FlowLoss[];
}

export class LossLedger {
  readonly #sentAt: number[][];
  readonly #answered: boolean[][];

  constructor(flows: number) {
    this.#sentAt = Array.from({ length: flows }, () => []);
    this.#answered = Array.from({ length: flows }, () => []);
  }

  /** The next sequence number of the flow. */
  sent(flow: number, now: number): number {
    const times = this.#sentAt[flow] ?? [];
    this.#answered[flow]?.push(false);
    return times.push(now) - 1;
  }

  answered(flow: number, sequence: number): void {
    const row = this.#answered[flow];
    if (row !== undefined && sequence < row.length) row[sequence] = true;
  }

  mark(): Mark {
    return this.#sentAt.map((times) => times.length);
  }

  isComplete(from: Mark, to: Mark): boolean {
    return this.#answered.every((row, flow) => !row.slice(from[flow], to[flow]).includes(false));
  }

  /** Of the packets sent between the two marks. */
  loss(from: Mark, to: Mark): Loss {
    let sent = 0;
    let rate = Number.POSITIVE_INFINITY;
    const flows: FlowLoss[] = [];
    for (const [flow, times] of this.#sentAt.entries()) {
      const [first = 0, end = 0] = [from[flow], to[flow]];
      sent += end - first;
      const elapsed = (times[end - 1] ?? 0) - (times[first] ?? 0);
      rate = Math.min(rate, elapsed > 0 ? ((end - first - 1) * 1000) / elapsed : end - first);
      const found = this.#flowLoss(flow, first, end);
      if (found.lost > 0) flows.push(found);
    }
    flows.sort((a, b) => b.gapMs - a.gapMs);
    return {
      sent,
      lost: flows.reduce((sum, { lost }) => sum + lost, 0),
      longestGapMs: flows[0]?.gapMs ?? 0,
      rate: Number.isFinite(rate) ? rate : 0,
      flows,
    };
  }

  #flowLoss(flow: number, first: number, end: number): FlowLoss {
    const times = this.#sentAt[flow] ?? [];
    const answered = this.#answered[flow] ?? [];
    let [lost, gapMs, at] = [0, 0, 0];
    let since: number | undefined;
    for (let sequence = first; sequence < end; sequence++) {
      const now = times[sequence] ?? 0;
      if (answered[sequence] === true) since = undefined;
      else {
        lost++;
        since ??= now;
        // Until the next packet, answered or not; the last one has no next.
        const length = (times[sequence + 1] ?? now) - since;
        if (length >= gapMs) [gapMs, at] = [length, since];
      }
    }
    return { flow, lost, gapMs, at };
  }
}
