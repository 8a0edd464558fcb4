import { parseDuration } from "@calico-ts/schema";

const NANOSECONDS = 1_000_000_000n;

/** A duration as resources write it (`90s`, `1m30s`, `500ms`) in whole seconds, rounded; undefined when it is none, or negative. */
export function durationSeconds(text: string): number | undefined {
  const nanoseconds = parseDuration(text);
  if (nanoseconds === undefined || nanoseconds < 0n) return undefined;
  return Number((nanoseconds + NANOSECONDS / 2n) / NANOSECONDS);
}
