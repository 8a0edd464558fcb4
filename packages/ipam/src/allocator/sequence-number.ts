/**
 * Sequence numbers protect a release against acting on an old view: an address remembers the block's number at the moment
 * it was assigned, and a release that names another number is refused. All that is needed is that numbers never repeat.
 *
 * Upstream starts a block at the wall clock in nanoseconds, more than 2^53, where JavaScript counts in steps of 256. So our
 * blocks start at microseconds (exact until the year 2255), and the step from a number we read is the least that is seen.
 */
export const firstSequenceNumber = (nowMs: number): number => Math.trunc(nowMs * 1000);

export function nextSequenceNumber(current: number): number {
  let step = 1;
  while (current + step === current) step *= 2;
  return current + step;
}
