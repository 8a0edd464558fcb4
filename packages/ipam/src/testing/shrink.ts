/**
 * Makes a list of choices that fails as short and as tame as it can: leaves out runs of them, then sets runs to zero, then lowers single ones.
 * What remains is a story with hardly a step in it that does not matter.
 */
export async function shrinkChoices(
  choices: readonly number[],
  fails: (choices: readonly number[]) => Promise<boolean>,
  budget = 2000,
): Promise<number[]> {
  const search = { best: withoutTail(choices), left: budget };
  const better = async (candidate: readonly number[]): Promise<boolean> => {
    search.left--;
    if (search.left < 0 || !(await fails(candidate))) return false;
    search.best = withoutTail(candidate);
    return true;
  };
  for (;;) {
    const before = search.best;
    for (let size = Math.max(1, before.length >> 1); size >= 1; size >>= 1) await shrinkRuns(search, size, better);
    if (search.best === before || search.left < 0) return search.best;
  }
}

interface Search {
  best: number[];
  left: number;
}

async function shrinkRuns(
  search: Search,
  size: number,
  better: (candidate: readonly number[]) => Promise<boolean>,
): Promise<void> {
  for (let at = 0; at < search.best.length && search.left > 0; ) {
    const { best } = search;
    if (await better([...best.slice(0, at), ...best.slice(at + size)])) continue;
    const tamer = best.map((choice, index) => (index >= at && index < at + size ? 0 : choice));
    if (best.slice(at, at + size).some((choice) => choice !== 0)) await better(tamer);
    at += size;
  }
}

/** Zeros at the end are what comes anyway. */
function withoutTail(choices: readonly number[]): number[] {
  let end = choices.length;
  while (end > 0 && choices[end - 1] === 0) end--;
  return choices.slice(0, end);
}
