/**
 * Text to tokens.
 *
 * Two rules make this more than splitting at punctuation. Words such as `in` or `contains` are operators only right
 * after a label and only when a word boundary follows, so that labels may carry the same names (`in == "x"`,
 * `contains contains "x"`). And `has(`, `all(` and `global(` are one word: with a space before the parenthesis the word
 * is a label. Blanks are space and tab; a line break is an error, as it is upstream.
 */
import { selectorError } from "./selector-error.ts";

export type Token =
  | { readonly kind: "label" | "has" | "string"; readonly text: string; readonly at: number }
  | { readonly kind: Punctuation | WordOperator | "all" | "global" | "end"; readonly at: number };

export type Punctuation = "(" | ")" | "{" | "}" | "," | "==" | "!=" | "!" | "&&" | "||";
export type WordOperator = "contains" | "starts with" | "ends with" | "in" | "not in";

const BLANKS = /[ \t]*/y;
const LABEL = /[a-zA-Z0-9_./-]+/y;
export const MAX_LABEL_LENGTH = 512;

const PUNCTUATION: readonly Punctuation[] = ["&&", "||", "==", "!=", "!", "(", ")", "{", "}", ","];
const WORD_OPERATORS: readonly (readonly [WordOperator, RegExp])[] = [
  ["contains", /contains\b/y],
  ["starts with", /starts[ \t]*with\b/y],
  ["ends with", /ends[ \t]*with\b/y],
  ["not in", /not[ \t]*in\b/y],
  ["in", /in\b/y],
];
const CALL = /(has|all|global)\([ \t]*/y;

export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = skipBlanks(text, 0); at < text.length; ) {
    const [token, end] = next(text, at, tokens.at(-1)?.kind === "label");
    tokens.push(token);
    at = skipBlanks(text, end);
  }
  tokens.push({ kind: "end", at: text.length });
  return tokens;
}

const skipBlanks = (text: string, at: number): number => at + matchAt(BLANKS, text, at).length;

function next(text: string, at: number, afterLabel: boolean): readonly [Token, number] {
  const mark = PUNCTUATION.find((candidate) => text.startsWith(candidate, at));
  if (mark !== undefined) return [{ kind: mark, at }, at + mark.length];
  const quote = text[at];
  if (quote === '"' || quote === "'") return quoted(text, at, quote);
  if (afterLabel) {
    for (const [kind, pattern] of WORD_OPERATORS) {
      const word = matchAt(pattern, text, at);
      if (word !== "") return [{ kind, at }, at + word.length];
    }
    throw selectorError(text, at, "expected an operator (==, !=, in, not in, contains, starts with, ends with)");
  }
  return call(text, at) ?? label(text, at);
}

function quoted(text: string, at: number, quote: string): readonly [Token, number] {
  const end = text.indexOf(quote, at + 1);
  if (end < 0) throw selectorError(text, at, `this string has no closing ${quote}`);
  return [{ kind: "string", text: text.slice(at + 1, end), at }, end + 1];
}

function call(text: string, at: number): readonly [Token, number] | undefined {
  const opening = matchAt(CALL, text, at);
  if (opening === "") return undefined;
  const name = opening.slice(0, opening.indexOf("("));
  let end = at + opening.length;
  let argument = "";
  if (name === "has") {
    const [token, labelEnd] = label(text, end);
    argument = token.text;
    end = skipBlanks(text, labelEnd);
  }
  if (text[end] !== ")") throw selectorError(text, end, `expected ")" to close "${name}("`);
  const token: Token =
    name === "has" ? { kind: "has", text: argument, at } : { kind: name === "all" ? "all" : "global", at };
  return [token, end + 1];
}

function label(text: string, at: number): readonly [{ kind: "label"; text: string; at: number }, number] {
  const name = matchAt(LABEL, text, at);
  if (name === "") {
    const found = at < text.length ? `, found ${JSON.stringify(text[at])}` : ", found the end";
    throw selectorError(text, at, `expected a label name${found}`);
  }
  if (name.length > MAX_LABEL_LENGTH) {
    throw selectorError(text, at, `a label name has at most ${MAX_LABEL_LENGTH} characters, this one ${name.length}`);
  }
  return [{ kind: "label", text: name, at }, at + name.length];
}

function matchAt(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? "";
}
