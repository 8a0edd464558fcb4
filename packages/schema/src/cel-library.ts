/**
 * The functions Kubernetes adds to CEL, on top of the language that `@marcbachmann/cel-js` brings: IP addresses and
 * CIDRs, quantities, regular-expression find, list aggregates and positions, sets, strings, named formats, URLs.
 * Names and behaviour: Kubernetes documentation, "CEL in Kubernetes". Cost limits are left to the API server that
 * embeds this; rules come from CRDs an administrator installed.
 */
import {
  addressBits,
  containsAddress,
  containsPrefix,
  formatAddress,
  formatPrefix,
  type IpAddress,
  type Prefix,
  prefixAddress,
  tryParseAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { Environment, Optional } from "@marcbachmann/cel-js";
import { matchesStringFormat } from "./formats.ts";
import { formatQuantity, parseQuantity, type Quantity } from "./quantity.ts";
import { sameJson } from "./schema.ts";
import { regularExpression } from "./pattern.ts";

class Ip {
  readonly address: IpAddress;
  constructor(address: IpAddress) {
    this.address = address;
  }
}

class Cidr {
  readonly prefix: Prefix;
  /** The address as written, host bits included. */
  readonly address: IpAddress;
  constructor(prefix: Prefix, address: IpAddress) {
    this.prefix = prefix;
    this.address = address;
  }
}

class Amount {
  readonly quantity: Quantity;
  constructor(quantity: Quantity) {
    this.quantity = quantity;
  }
}

class Url {
  readonly parts: { readonly scheme: string; readonly host: string; readonly path: string; readonly query: string };
  constructor(text: string) {
    const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?/.exec(text);
    const path = match === null && text.startsWith("/") ? text.split(/[?#]/)[0] : match?.[3];
    if (path === undefined) throw refuse(`URL parse error: ${JSON.stringify(text)}`);
    this.parts = { scheme: match?.[1] ?? "", host: match?.[2] ?? "", path, query: match?.[4] ?? "" };
  }
}

/** The objects behind the names `sets` and `format`; they only carry functions. */
class Sets {
  readonly name = "sets";
}

class Formats {
  readonly name = "format";
}

class NamedFormat {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

const refuse = (message: string): CalicoError => new CalicoError("BAD_INPUT", message);

const toIp = (text: string): Ip => {
  const address = tryParseAddress(text);
  if (address === undefined) throw refuse(`IP Address ${JSON.stringify(text)} parse error`);
  return new Ip(address);
};

const tryCidr = (text: string): Cidr | undefined => {
  const slash = text.indexOf("/");
  const prefix = slash < 0 ? undefined : tryParsePrefix(text, "mask");
  const address = tryParseAddress(text.slice(0, Math.max(slash, 0)));
  return prefix === undefined || address === undefined ? undefined : new Cidr(prefix, address);
};

const toCidr = (text: string): Cidr => {
  const cidr = tryCidr(text);
  if (cidr === undefined)
    throw refuse(`network address parse error during conversion from string: ${JSON.stringify(text)}`);
  return cidr;
};

/** The environment all rules share: variables are dynamic, `self` and `oldSelf` come with each evaluation. */
export function createEnvironment(): Environment {
  const environment = new Environment({
    unlistedVariablesAreDyn: true,
    homogeneousAggregateLiterals: false,
    enableOptionalTypes: true,
    limits: { maxAstNodes: 20_000, maxDepth: 200, maxListElements: 10_000, maxMapEntries: 10_000 },
  });
  registerNetwork(environment);
  registerQuantities(environment);
  registerStrings(environment);
  registerLists(environment);
  registerFormats(environment);
  return environment;
}

function registerNetwork(environment: Environment): void {
  const v4 = (ip: Ip): number => Number(ip.address.value);
  const v6 = (ip: Ip): bigint => ip.address.value;
  const isV4 = (ip: Ip): boolean => ip.address.family === 4;
  environment
    .registerType("IP", { ctor: Ip, fields: {} })
    .registerType("CIDR", { ctor: Cidr, fields: {} })
    .registerFunction("isIP(string): bool", (text: string) => tryParseAddress(text) !== undefined)
    .registerFunction("ip(string): IP", toIp)
    .registerFunction("string(IP): string", (ip: Ip) => formatAddress(ip.address))
    .registerFunction("IP.family(): int", (ip: Ip) => BigInt(ip.address.family))
    .registerFunction("IP.isUnspecified(): bool", (ip: Ip) => ip.address.value === 0n)
    .registerFunction("IP.isLoopback(): bool", (ip: Ip) => (isV4(ip) ? v4(ip) >>> 24 === 127 : v6(ip) === 1n))
    .registerFunction("IP.isLinkLocalMulticast(): bool", (ip: Ip) =>
      isV4(ip) ? v4(ip) >>> 8 === 0xe00000 : v6(ip) >> 120n === 0xffn && ((v6(ip) >> 112n) & 0xfn) === 2n,
    )
    .registerFunction("IP.isLinkLocalUnicast(): bool", (ip: Ip) =>
      isV4(ip) ? v4(ip) >>> 16 === 0xa9fe : v6(ip) >> 118n === 0x3fan,
    )
    .registerFunction("IP.isGlobalUnicast(): bool", (ip: Ip) => isGlobalUnicast(ip.address))
    .registerOperator(
      "IP == IP",
      (a: Ip, b: Ip) => a.address.family === b.address.family && a.address.value === b.address.value,
    )
    .registerFunction("isCIDR(string): bool", (text: string) => tryCidr(text) !== undefined)
    .registerFunction("cidr(string): CIDR", toCidr)
    .registerFunction("string(CIDR): string", (cidr: Cidr) => `${formatAddress(cidr.address)}/${cidr.prefix.length}`)
    .registerFunction("CIDR.containsIP(IP): bool", (cidr: Cidr, ip: Ip) => containsAddress(cidr.prefix, ip.address))
    .registerFunction("CIDR.containsIP(string): bool", (cidr: Cidr, text: string) =>
      containsAddress(cidr.prefix, toIp(text).address),
    )
    .registerFunction("CIDR.containsCIDR(CIDR): bool", (cidr: Cidr, other: Cidr) =>
      containsPrefix(cidr.prefix, other.prefix),
    )
    .registerFunction("CIDR.containsCIDR(string): bool", (cidr: Cidr, text: string) =>
      containsPrefix(cidr.prefix, toCidr(text).prefix),
    )
    .registerFunction("CIDR.ip(): IP", (cidr: Cidr) => new Ip(cidr.address))
    .registerFunction("CIDR.masked(): CIDR", (cidr: Cidr) => new Cidr(cidr.prefix, prefixAddress(cidr.prefix)))
    .registerFunction("CIDR.prefixLength(): int", (cidr: Cidr) => BigInt(cidr.prefix.length))
    .registerOperator(
      "CIDR == CIDR",
      (a: Cidr, b: Cidr) => formatPrefix(a.prefix) === formatPrefix(b.prefix) && a.address.value === b.address.value,
    );
}

function isGlobalUnicast(address: IpAddress): boolean {
  const top = Number(address.value >> BigInt(addressBits(address.family) - 16));
  if (address.value === 0n) return false;
  if (address.family === 4) {
    const first = top >>> 8;
    return address.value !== 0xffffffffn && first !== 127 && first < 224 && top !== 0xa9fe;
  }
  return address.value !== 1n && top >>> 8 !== 0xff && top >>> 6 !== 0x3fa;
}

function registerQuantities(environment: Environment): void {
  const toAmount = (text: string): Amount => {
    const quantity = parseQuantity(text);
    if (quantity === undefined) throw refuse(`quantities must match the regular expression: ${JSON.stringify(text)}`);
    return new Amount(quantity);
  };
  const combine = (a: Amount, nano: bigint): Amount =>
    new Amount({ nano: a.quantity.nano + nano, format: a.quantity.format });
  const compare = (a: Amount, b: Amount): bigint =>
    a.quantity.nano < b.quantity.nano ? -1n : a.quantity.nano > b.quantity.nano ? 1n : 0n;
  environment
    .registerType("Quantity", { ctor: Amount, fields: {} })
    .registerFunction("isQuantity(string): bool", (text: string) => parseQuantity(text) !== undefined)
    .registerFunction("quantity(string): Quantity", toAmount)
    .registerFunction("string(Quantity): string", (a: Amount) => formatQuantity(a.quantity))
    .registerFunction("Quantity.sign(): int", (a: Amount) =>
      a.quantity.nano < 0n ? -1n : a.quantity.nano > 0n ? 1n : 0n,
    )
    .registerFunction("Quantity.add(Quantity): Quantity", (a: Amount, b: Amount) => combine(a, b.quantity.nano))
    .registerFunction("Quantity.add(int): Quantity", (a: Amount, n: bigint) => combine(a, n * 1_000_000_000n))
    .registerFunction("Quantity.sub(Quantity): Quantity", (a: Amount, b: Amount) => combine(a, -b.quantity.nano))
    .registerFunction("Quantity.sub(int): Quantity", (a: Amount, n: bigint) => combine(a, -n * 1_000_000_000n))
    .registerFunction("Quantity.isGreaterThan(Quantity): bool", (a: Amount, b: Amount) => compare(a, b) > 0n)
    .registerFunction("Quantity.isLessThan(Quantity): bool", (a: Amount, b: Amount) => compare(a, b) < 0n)
    .registerFunction("Quantity.compareTo(Quantity): int", compare)
    .registerFunction("Quantity.isInteger(): bool", (a: Amount) => a.quantity.nano % 1_000_000_000n === 0n)
    .registerFunction("Quantity.asInteger(): int", (a: Amount) => {
      if (a.quantity.nano % 1_000_000_000n !== 0n) throw refuse("cannot convert value to integer");
      return a.quantity.nano / 1_000_000_000n;
    })
    .registerFunction("Quantity.asApproximateFloat(): double", (a: Amount) => Number(a.quantity.nano) / 1e9)
    .registerOperator("Quantity == Quantity", (a: Amount, b: Amount) => a.quantity.nano === b.quantity.nano);
}

function registerStrings(environment: Environment): void {
  const all = (pattern: string): RegExp => {
    const compiled = regularExpression(pattern);
    if (compiled === undefined) throw refuse(`illegal regex: ${pattern}`);
    return new RegExp(compiled.source, compiled.flags.includes("g") ? compiled.flags : `${compiled.flags}g`);
  };
  const findAll = (text: string, pattern: string): string[] =>
    Array.from(text.matchAll(all(pattern)), (match) => match[0]);
  environment
    .registerFunction("string.find(string): string", (text: string, pattern: string) => findAll(text, pattern)[0] ?? "")
    .registerFunction("string.findAll(string): list<string>", findAll)
    .registerFunction("string.findAll(string, int): list<string>", (text: string, pattern: string, limit: bigint) =>
      limit < 0n ? findAll(text, pattern) : findAll(text, pattern).slice(0, Number(limit)),
    )
    .registerFunction("string.charAt(int): string", (text: string, at: bigint) => Array.from(text)[Number(at)] ?? "")
    .registerFunction("string.reverse(): string", (text: string) => Array.from(text).toReversed().join(""))
    .registerFunction("string.replace(string, string): string", (text: string, from: string, to: string) =>
      text.replaceAll(from, () => to),
    )
    .registerFunction({
      name: "replace",
      receiverType: "string",
      returnType: "string",
      params: [
        { name: "from", type: "string" },
        { name: "to", type: "string" },
        { name: "limit", type: "int" },
      ],
      handler: (text: string, from: string, ...rest: unknown[]) => {
        const [to, limit] = rest as [string, bigint];
        const pieces = text.split(from);
        const cut = limit < 0n ? pieces.length - 1 : Math.min(Number(limit), pieces.length - 1);
        return (
          pieces.slice(0, cut + 1).join(to) +
          pieces
            .slice(cut + 1)
            .map((piece) => from + piece)
            .join("")
        );
      },
    })
    .registerFunction("string.format(list): string", formatText)
    .registerType("URL", { ctor: Url, fields: {} })
    .registerFunction("isURL(string): bool", (text: string) => {
      try {
        return new Url(text).parts.path !== undefined;
      } catch {
        return false;
      }
    })
    .registerFunction("url(string): URL", (text: string) => new Url(text))
    .registerFunction("URL.getScheme(): string", (url: Url) => url.parts.scheme)
    .registerFunction("URL.getHost(): string", (url: Url) => url.parts.host)
    .registerFunction("URL.getHostname(): string", (url: Url) =>
      url.parts.host.replace(/:\d*$/, "").replaceAll(/[[\]]/g, ""),
    )
    .registerFunction("URL.getPort(): string", (url: Url) => /:(\d*)$/.exec(url.parts.host)?.[1] ?? "")
    .registerFunction("URL.getEscapedPath(): string", (url: Url) => url.parts.path)
    .registerFunction("URL.getQuery(): map", (url: Url) => {
      const query = new Map<string, string[]>();
      for (const pair of url.parts.query.split("&").filter((text) => text !== "")) {
        const [key = "", value = ""] = pair.split("=", 2).map((text) => decodeURIComponent(text.replaceAll("+", " ")));
        query.set(key, [...(query.get(key) ?? []), value]);
      }
      return query;
    });
}

/** CEL's string.format: %s %d %f %e %x %X %o %b and %%. */
function formatText(template: string, values: readonly unknown[]): string {
  let next = 0;
  return template.replaceAll(/%(?:\.(\d+))?([sdfexXob%])/g, (_, precision: string | undefined, verb: string) => {
    if (verb === "%") return "%";
    if (next >= values.length) throw refuse(`format: index ${next} out of range`);
    const value = values[next++];
    const number = Number(value);
    switch (verb) {
      case "d":
        return String(value);
      case "f":
        return number.toFixed(precision === undefined ? 6 : Number(precision));
      case "e":
        return number.toExponential(precision === undefined ? 6 : Number(precision)).replace(/e([+-])(\d)$/, "e$10$2");
      case "b":
        return typeof value === "boolean" ? String(number) : BigInt(number).toString(2);
      case "o":
        return BigInt(number).toString(8);
      case "x":
      case "X": {
        const hex =
          typeof value === "string"
            ? Array.from(value)
                .map((char) => (char.codePointAt(0) ?? 0).toString(16))
                .join("")
            : BigInt(number).toString(16);
        return verb === "X" ? hex.toUpperCase() : hex;
      }
      default:
        return plainText(value);
    }
  });
}

function plainText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(plainText).join(", ")}]`;
  if (value instanceof Map)
    return `{${Array.from(value)
      .map(([key, item]) => `${plainText(key)}: ${plainText(item)}`)
      .join(", ")}}`;
  if (value instanceof Date) return value.toISOString().replace(".000Z", "Z");
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([key, item]) => `${key}: ${plainText(item)}`)
      .join(", ")}}`;
  }
  return String(value);
}

type Comparable = bigint | number | string | boolean;

function registerLists(environment: Environment): void {
  const extreme = (list: readonly Comparable[], better: (a: Comparable, b: Comparable) => boolean): Comparable => {
    const [first, ...rest] = list;
    if (first === undefined) throw refuse("min/max called on empty list");
    return rest.reduce((best, item) => (better(item, best) ? item : best), first);
  };
  const has = (list: readonly unknown[], item: unknown): boolean => list.some((other) => same(other, item));
  environment
    .registerFunction("list.isSorted(): bool", (list: readonly Comparable[]) =>
      list.every((item, index) => index === 0 || (list[index - 1] ?? item) <= item),
    )
    .registerFunction("list.sum(): dyn", (list: readonly (bigint | number)[]) =>
      list.reduce(
        (sum: bigint | number, item) =>
          typeof sum === "bigint" && typeof item === "bigint" ? sum + item : Number(sum) + Number(item),
        typeof list[0] === "number" ? 0 : 0n,
      ),
    )
    .registerFunction("list.min(): dyn", (list: readonly Comparable[]) => extreme(list, (a, b) => a < b))
    .registerFunction("list.max(): dyn", (list: readonly Comparable[]) => extreme(list, (a, b) => a > b))
    .registerFunction("list.indexOf(dyn): int", (list: readonly unknown[], item: unknown) =>
      BigInt(list.findIndex((other) => same(other, item))),
    )
    .registerFunction("list.lastIndexOf(dyn): int", (list: readonly unknown[], item: unknown) =>
      BigInt(list.findLastIndex((other) => same(other, item))),
    )
    .registerFunction("list.distinct(): list", (list: readonly unknown[]) =>
      list.filter((item, index) => list.findIndex((other) => same(other, item)) === index),
    )
    .registerFunction("list.flatten(): list", (list: readonly unknown[]) => list.flat())
    .registerFunction("list.reverse(): list", (list: readonly unknown[]) => list.toReversed())
    .registerFunction("list.slice(int, int): list", (list: readonly unknown[], from: bigint, to: bigint) =>
      list.slice(Number(from), Number(to)),
    );
  environment
    .registerType("SetsNamespace", { ctor: Sets, fields: {} })
    .registerConstant("sets", "SetsNamespace", new Sets())
    .registerFunction(
      "SetsNamespace.contains(list, list): bool",
      (_: Sets, a: readonly unknown[], b: readonly unknown[]) => b.every((item) => has(a, item)),
    )
    .registerFunction(
      "SetsNamespace.intersects(list, list): bool",
      (_: Sets, a: readonly unknown[], b: readonly unknown[]) => b.some((item) => has(a, item)),
    )
    .registerFunction(
      "SetsNamespace.equivalent(list, list): bool",
      (_: Sets, a: readonly unknown[], b: readonly unknown[]) =>
        a.every((item) => has(b, item)) && b.every((item) => has(a, item)),
    );
}

/** CEL equality of list items, numbers across kinds included. */
function same(a: unknown, b: unknown): boolean {
  const numeric = (value: unknown): value is number | bigint => typeof value === "number" || typeof value === "bigint";
  // oxlint-disable-next-line eqeqeq -- 1n == 1 is what CEL means by numeric equality
  if (numeric(a) && numeric(b)) return a == b;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => same(item, b[index]));
  return sameJson(a, b);
}

/** `format.dns1123Label().validate(x)`: an optional list of complaints; none when the text is fine. */
const NAMED_FORMATS: { readonly [name: string]: (text: string) => boolean } = {
  dns1123Label: (text) => text.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(text),
  dns1123Subdomain: (text) =>
    text.length <= 253 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(text),
  dns1035Label: (text) => text.length <= 63 && /^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(text),
  dns1123LabelPrefix: (text) => text.length <= 63 && /^[a-z0-9]([-a-z0-9]*)?$/.test(text),
  dns1123SubdomainPrefix: (text) => text.length <= 253 && /^[a-z0-9]([-a-z0-9.]*)?$/.test(text),
  dns1035LabelPrefix: (text) => text.length <= 63 && /^[a-z]([-a-z0-9]*)?$/.test(text),
  qualifiedName: (text) =>
    /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(text),
  labelValue: (text) => text.length <= 63 && /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/.test(text),
  uri: (text) => matchesStringFormat("uri", text),
  uuid: (text) => matchesStringFormat("uuid", text),
  byte: (text) => matchesStringFormat("byte", text),
  date: (text) => matchesStringFormat("date", text),
  datetime: (text) => matchesStringFormat("date-time", text),
};

const optionalOf = (value: unknown): Optional => (value === undefined ? Optional.none() : Optional.of(value));

function registerFormats(environment: Environment): void {
  environment
    .registerType("FormatNamespace", { ctor: Formats, fields: {} })
    .registerType("NamedFormat", { ctor: NamedFormat, fields: {} })
    .registerConstant("format", "FormatNamespace", new Formats())
    .registerFunction("FormatNamespace.named(string): optional<NamedFormat>", (_: Formats, name: string) =>
      Object.hasOwn(NAMED_FORMATS, name) ? optionalOf(new NamedFormat(name)) : optionalOf(undefined),
    )
    .registerFunction("NamedFormat.validate(string): optional<list<string>>", (format: NamedFormat, text: string) =>
      optionalOf(NAMED_FORMATS[format.name]?.(text) === false ? [`must be a valid ${format.name}`] : undefined),
    );
  for (const name of Object.keys(NAMED_FORMATS)) {
    environment.registerFunction(`FormatNamespace.${name}(): NamedFormat`, () => new NamedFormat(name));
  }
}
