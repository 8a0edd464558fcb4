/** Checks of single values that schemas cannot express. Each takes the value's path and returns what is wrong with it. */
import { tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import type { Family } from "@calico-ts/net";
import type { FieldError } from "@calico-ts/schema";
import { indexPath, invalid, parseDuration, regularExpression } from "@calico-ts/schema";
import { parseSelector } from "@calico-ts/selector";

/** Checks a value that may be absent. */
export const given = <V>(value: V | undefined, check: (value: V) => FieldError[]): FieldError[] =>
  value === undefined ? [] : check(value);

/** The same for text that counts as absent when empty. */
export const filled = (value: string | undefined, check: (value: string) => FieldError[]): FieldError[] =>
  value === undefined || value === "" ? [] : check(value);

export const each = <V>(
  values: readonly V[] | undefined,
  path: string,
  check: (value: V, path: string, index: number) => FieldError[],
): FieldError[] => (values ?? []).flatMap((value, index) => check(value, indexPath(path, index), index));

export const when = (wrong: boolean, error: () => FieldError): FieldError[] => (wrong ? [error()] : []);

export function selectorErrors(text: string | undefined, path: string): FieldError[] {
  return filled(text, (selector) => {
    try {
      parseSelector(selector);
      return [];
    } catch (error) {
      // The caret line is for terminals; here the column says it.
      const [problem = ""] = error instanceof Error ? error.message.split("\n") : [];
      return [invalid(path, selector, problem)];
    }
  });
}

export function selectorWithoutGlobal(text: string | undefined, path: string): FieldError[] {
  return filled(text, (selector) =>
    selector.includes("global(")
      ? [invalid(path, selector, "global() can be used in the namespaceSelector of a rule only")]
      : selectorErrors(selector, path),
  );
}

/** A prefix, host bits or not, or an address: members of network sets are masked by whoever uses them. */
export const looseNetErrors = (text: string, path: string): FieldError[] =>
  when(tryParsePrefix(text, "mask") === undefined, () => invalid(path, text, "not an address or a prefix"));

/** A prefix without host bits, or an address. */
export function netErrors(text: string, path: string, family?: Family): FieldError[] {
  const prefix = tryParsePrefix(text);
  if (prefix === undefined) {
    const bits = tryParsePrefix(text, "mask") === undefined ? "" : " (it has host bits set)";
    return [invalid(path, text, `not an address or a prefix${bits}`)];
  }
  return when(family !== undefined && prefix.family !== family, () =>
    invalid(path, text, `not an IPv${family} prefix`),
  );
}

export function addressErrors(text: string, path: string, family?: Family): FieldError[] {
  const address = tryParseAddress(text);
  if (address !== undefined && (family === undefined || address.family === family)) return [];
  return [invalid(path, text, family === undefined ? "not an IP address" : `not an IPv${family} address`)];
}

export const durationErrors = (text: string | undefined, path: string): FieldError[] =>
  filled(text, (duration) =>
    when(parseDuration(duration) === undefined, () =>
      invalid(path, duration, 'not a duration: write it like "90s", "1m30s" or "500ms"'),
    ),
  );

export const regexpErrors = (text: string | undefined, path: string): FieldError[] =>
  filled(text, (expression) =>
    when(regularExpression(expression) === undefined, () => invalid(path, expression, "not a regular expression")),
  );

const patternErrors =
  (pattern: RegExp, what: string) =>
  (text: string | undefined, path: string): FieldError[] =>
    filled(text, (value) => when(!pattern.test(value), () => invalid(path, value, what)));

export const interfaceErrors = patternErrors(
  /^(\*|[a-zA-Z0-9_.-]{1,15})$/,
  "not an interface name: letters, digits, '_', '.', '-', at most 15; or *",
);
/** `*` stands for any characters, but the whole may not be `*`. */
export const interfaceWildcardErrors = patternErrors(
  /^(?!\*$)[a-zA-Z0-9_.*-]{1,15}$/,
  "not an interface name or pattern: letters, digits, '_', '.', '-', '*', at most 15, and not * alone",
);
export const bgpInterfaceErrors = patternErrors(
  /^[a-zA-Z0-9_.*-]{1,15}$/,
  "not an interface name or pattern: letters, digits, '_', '.', '-', '*', at most 15",
);
export const interfaceFilterErrors = patternErrors(
  /^[a-zA-Z0-9:._+-]{1,15}$/,
  "not an interface name: letters, digits, ':', '.', '_', '+', '-', at most 15",
);
/** A letter at least: `8000-9000` is a range written wrongly, not a name. */
export const portNameErrors = patternErrors(
  /^(?=.*[a-zA-Z])[a-zA-Z0-9_.-]{1,128}$/,
  "not a port name: letters, digits, '_', '.', '-', at most 128, one letter at least (a range is first:last)",
);

/** A number, `first:last` as text, or undefined when it is neither. */
export function portNumbers(port: number | string): readonly [first: number, last: number] | undefined {
  if (typeof port === "number") return [port, port];
  const match = /^(\d+)(?::(\d+))?$/.exec(port);
  if (match === null) return undefined;
  const first = Number(match[1]);
  return [first, match[2] === undefined ? first : Number(match[2])];
}

export interface PortBounds {
  readonly lowest: 0 | 1;
  readonly named: boolean;
}

export function portErrors(port: number | string, path: string, bounds: PortBounds): FieldError[] {
  const numbers = portNumbers(port);
  if (numbers === undefined) {
    if (!bounds.named || port === "") return [invalid(path, port, "not a port or a range first:last")];
    return portNameErrors(String(port), path);
  }
  const [first, last] = numbers;
  const inRange = [first, last].every((number) => number >= bounds.lowest && number <= 65_535);
  if (inRange && first <= last) return [];
  return [invalid(path, port, `ports are ${bounds.lowest} to 65535, and a range goes upwards`)];
}
