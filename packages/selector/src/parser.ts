/**
 * Tokens to a tree, by recursive descent:
 *
 *     selector := (nothing: all()) | or end          set   := "{" [ string { "," string } [","] ] "}"
 *     or       := and { "||" and }
 *     and      := op { "&&" op }
 *     op       := { "!" } ( has(label) | all() | global() | "(" or ")" | compare )
 *     compare  := label ( "==" s | "!=" s | "contains" s | "starts with" s | "ends with" s | "in" set | "not in" set )
 */
import type { SelectorNode, SetOperator, ValueOperator } from "./ast.ts";
import { negate, setValues } from "./ast.ts";
import { selectorError } from "./selector-error.ts";
import type { Token } from "./tokenizer.ts";
import { tokenize } from "./tokenizer.ts";

/** Far beyond what fits in the 1024 characters the API allows, and well inside the JavaScript stack. */
const MAX_DEPTH = 600;

/** @throws CalicoError BAD_INPUT */
export function parseNode(text: string): SelectorNode {
  const parser = new Parser(text, tokenize(text));
  return parser.selector();
}

class Parser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #index = 0;
  #depth = 0;

  constructor(text: string, tokens: readonly Token[]) {
    this.#text = text;
    this.#tokens = tokens;
  }

  selector(): SelectorNode {
    if (this.#peek().kind === "end") return { kind: "all" };
    const node = this.#or();
    if (this.#peek().kind !== "end") this.#fail('expected "&&", "||" or the end');
    return node;
  }

  #or(): SelectorNode {
    return this.#chain("or", "||", () => this.#and());
  }

  #and(): SelectorNode {
    return this.#chain("and", "&&", () => this.#operation());
  }

  #chain(kind: "and" | "or", mark: "&&" | "||", operand: () => SelectorNode): SelectorNode {
    const first = operand();
    if (this.#peek().kind !== mark) return first;
    const operands = [first];
    while (this.#accept(mark)) operands.push(operand());
    return { kind, operands };
  }

  #operation(): SelectorNode {
    let negated = false;
    while (this.#accept("!")) negated = !negated;
    const node = this.#positive();
    return negated ? negate(node) : node;
  }

  #positive(): SelectorNode {
    const token = this.#peek();
    switch (token.kind) {
      case "has":
        this.#index++;
        return { kind: "has", label: token.text };
      case "all":
      case "global":
        this.#index++;
        return { kind: token.kind };
      case "(":
        return this.#group();
      case "label":
        this.#index++;
        return this.#compare(token.text);
      default:
        return this.#fail('expected a label, has(...), all(), global() or "("');
    }
  }

  #group(): SelectorNode {
    if (++this.#depth > MAX_DEPTH) this.#fail(`parentheses are nested more than ${MAX_DEPTH} deep`);
    this.#index++;
    const node = this.#or();
    if (!this.#accept(")")) this.#fail('expected ")"');
    this.#depth--;
    return node;
  }

  #compare(label: string): SelectorNode {
    const operator = this.#peek();
    switch (operator.kind) {
      case "==":
      case "!=":
      case "contains":
      case "starts with":
      case "ends with":
        this.#index++;
        return { kind: operator.kind satisfies ValueOperator, label, value: this.#string() };
      case "in":
      case "not in":
        this.#index++;
        return { kind: operator.kind satisfies SetOperator, label, values: this.#set() };
      default:
        return this.#fail("expected an operator (==, !=, in, not in, contains, starts with, ends with)");
    }
  }

  #string(): string {
    const token = this.#peek();
    if (token.kind !== "string") return this.#fail("expected a quoted string");
    this.#index++;
    return token.text;
  }

  #set(): string[] {
    if (!this.#accept("{")) this.#fail('expected "{" and a list of quoted strings');
    const values: string[] = [];
    while (this.#peek().kind === "string") {
      values.push(this.#string());
      if (!this.#accept(",")) break;
    }
    if (!this.#accept("}")) this.#fail('expected a quoted string, "," or "}"');
    return setValues(values);
  }

  #peek(): Token {
    return this.#tokens[this.#index] ?? { kind: "end", at: this.#text.length };
  }

  #accept(kind: Token["kind"]): boolean {
    if (this.#peek().kind !== kind) return false;
    this.#index++;
    return true;
  }

  #fail(problem: string): never {
    throw selectorError(this.#text, this.#peek().at, problem);
  }
}
