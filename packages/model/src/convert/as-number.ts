/** AS numbers in text: plain (`4200000000`) or dotted (`64086.59904`, RFC 5396 asdot+). */
export function parseAsNumber(text: string): number | undefined {
  const match = /^(\d{1,10})(?:\.(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const high = Number(match[1]);
  if (match[2] === undefined) return high <= 0xff_ff_ff_ff ? high : undefined;
  const low = Number(match[2]);
  return high <= 0xff_ff && low <= 0xff_ff ? high * 0x1_00_00 + low : undefined;
}
