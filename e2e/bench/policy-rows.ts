/** A row of the policy benchmark's table, and how its numbers are taken. */

export interface Row {
  readonly what: string;
  readonly ours: string;
  readonly peer: string;
  readonly ratio?: number;
  readonly target: string;
  /** Absent: no goal, a number to compare others with. */
  readonly met?: boolean;
  readonly numbers: Readonly<Record<string, number>>;
}

export const ms = (value: number): string => (value >= 100 ? `${value.toFixed(0)} ms` : `${value.toFixed(2)} ms`);

export async function timed(work: () => Promise<unknown> | void): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

export const alone = (what: string, value: number, target: number, more = ""): Row => ({
  what,
  ours: ms(value) + more,
  peer: "",
  target: `≤ ${target} ms`,
  met: value <= target,
  numbers: { value },
});
