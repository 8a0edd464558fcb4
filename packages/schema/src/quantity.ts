/**
 * Kubernetes quantities: `100m`, `1.5Gi`, `2e3`. A quantity is an exact rational with a power-of-ten denominator.
 * Canonical text follows the API server: the largest suffix that leaves an integer, in the notation it came in.
 */

const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] as const;
const DECIMAL = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"] as const;

export type QuantityFormat = "BinarySI" | "DecimalSI" | "DecimalExponent";

/** Value in nano units: the API server keeps no more precision than that. */
export interface Quantity {
  readonly nano: bigint;
  readonly format: QuantityFormat;
}

const NANO = 1_000_000_000n;

/** The quantity, or undefined when the text is none. More than nine decimals round up, as upstream does. */
export function parseQuantity(text: string): Quantity | undefined {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d{1,3})?$/.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = "", fraction = "", suffix = ""] = match;
  if (whole === "" && fraction === "") return undefined;
  let numerator = BigInt(`${whole}${fraction}`) * NANO;
  let denominator = 10n ** BigInt(fraction.length);
  let format: QuantityFormat = "DecimalSI";
  const binary = BINARY.findIndex((name) => name === suffix && name !== "");
  if (binary > 0) {
    format = "BinarySI";
    numerator *= 1024n ** BigInt(binary);
  } else if (/^[eE][+-]?\d/.test(suffix)) {
    format = "DecimalExponent";
    const exponent = Number(suffix.slice(1));
    if (exponent >= 0) numerator *= 10n ** BigInt(exponent);
    else denominator *= 10n ** BigInt(-exponent);
  } else {
    const power = (DECIMAL.findIndex((name) => name === suffix) - 3) * 3;
    if (power >= 0) numerator *= 10n ** BigInt(power);
    else denominator *= 10n ** BigInt(-power);
  }
  const nano = (numerator + denominator - 1n) / denominator;
  return { nano: sign === "-" ? -nano : nano, format };
}

export function formatQuantity(quantity: Quantity): string {
  const negative = quantity.nano < 0n;
  const nano = negative ? -quantity.nano : quantity.nano;
  if (nano === 0n) return "0";
  const sign = negative ? "-" : "";
  if (quantity.format === "BinarySI" && nano % NANO === 0n && nano / NANO >= 1024n) {
    let value = nano / NANO;
    let power = 0;
    while (power < BINARY.length - 1 && value % 1024n === 0n) {
      value /= 1024n;
      power++;
    }
    return `${sign}${value}${BINARY[power] ?? ""}`;
  }
  let value = nano;
  let power = 0;
  while (power < DECIMAL.length - 1 && value % 1000n === 0n) {
    value /= 1000n;
    power++;
  }
  if (quantity.format !== "DecimalExponent") return `${sign}${value}${DECIMAL[power] ?? ""}`;
  const exponent = (power - 3) * 3;
  return exponent === 0 ? `${sign}${value}` : `${sign}${value}e${exponent}`;
}

/** The canonical text, or undefined when the value (text or number) is no quantity. */
export function canonicalQuantity(value: unknown): string | undefined {
  const text = typeof value === "number" ? String(value) : value;
  if (typeof text !== "string") return undefined;
  const quantity = parseQuantity(text);
  return quantity === undefined ? undefined : formatQuantity(quantity);
}
