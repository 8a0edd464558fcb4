/**
 * Patterns of schemas and CEL: RE2 syntax read by ECMAScript's engine, compiled once.
 *
 * A pattern that cannot be read yields undefined, and callers then let the text pass: refusing good objects because
 * of a dialect difference would be worse. There is no protection against patterns that backtrack for long.
 */

const expressions = new Map<string, RegExp | undefined>();

/** A Go pattern as a RegExp. Inline flags at the start and \z, \A, \pX spellings are translated. */
export function regularExpression(pattern: string): RegExp | undefined {
  if (expressions.has(pattern)) return expressions.get(pattern);
  // `^(?i)…` is common too: flags do not change what an anchor before them means.
  const flagged = /^(\^?)\(\?([ims]+)\)/.exec(pattern);
  const flags = flagged?.[2] ?? "";
  const source = `${flagged?.[1] ?? ""}${pattern.slice(flagged?.[0].length ?? 0)}`
    .replaceAll(/\\z/g, "$")
    .replaceAll(/\\A/g, "^")
    .replaceAll(/\(\?P</g, "(?<")
    .replaceAll(/\[\[:(alpha|digit|alnum|space|upper|lower):\]\]/g, (_, name: string) => POSIX[name] ?? "");
  let compiled: RegExp | undefined;
  for (const extra of ["u", ""]) {
    try {
      compiled ??= new RegExp(source, `${flags}${extra}`);
    } catch {
      // RE2 allows escapes the strict `u` mode refuses; the second round is lenient.
    }
  }
  if (expressions.size > 10_000) expressions.clear();
  expressions.set(pattern, compiled);
  return compiled;
}

const POSIX: { readonly [name: string]: string } = {
  alpha: "[A-Za-z]",
  digit: "[0-9]",
  alnum: "[0-9A-Za-z]",
  space: "\\s",
  upper: "[A-Z]",
  lower: "[a-z]",
};
