/** Kubernetes quantities ("250m", "64Mi", 2) as numbers, for resourceFieldRef. */
const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Undefined when the text is no quantity. */
export function parseQuantity(quantity: string | number): number | undefined {
  if (typeof quantity === "number") return quantity;
  const match = /^([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)([a-zA-Z]*)$/.exec(quantity.trim());
  const factor = FACTORS[match?.[2] ?? "?"];
  return match === null || factor === undefined ? undefined : Number(match[1]) * factor;
}

/** A resource in units of a divisor, rounded up, as containers see it. */
export function inUnits(quantity: string | number, divisor: string | number | undefined): string | undefined {
  const value = parseQuantity(quantity);
  const unit = parseQuantity(divisor === undefined || divisor === "0" || divisor === 0 ? 1 : divisor);
  if (value === undefined || unit === undefined || unit === 0) return undefined;
  // 0.1 and its kind are not exact: 300m of 100m must be 3, not 4.
  return String(Math.ceil(Number((value / unit).toFixed(9))));
}
