/**
 * START HERE. A Calico selector, parsed once: text → tokens (`tokenizer.ts`) → tree (`parser.ts`, `ast.ts`), and from the
 * tree a matcher (`evaluate.ts`), the canonical text (`canonical.ts`), the unique id and the label restrictions
 * (`restrictions.ts`). How namespace and service-account selectors of policies become one selector over endpoint labels
 * is in `rewrite.ts`.
 */
import { sha224Base64Url } from "@calico-ts/std";
import type { SelectorNode } from "./ast.ts";
import { canonicalText } from "./canonical.ts";
import type { LabelSource, Matcher } from "./evaluate.ts";
import { compileMatcher } from "./evaluate.ts";
import { parseNode } from "./parser.ts";
import type { LabelRestrictions } from "./restrictions.ts";
import { labelRestrictions } from "./restrictions.ts";

export class Selector {
  readonly ast: SelectorNode;
  readonly canonical: string;
  #matcher: Matcher | undefined;
  #uniqueId: string | undefined;
  #restrictions: LabelRestrictions | undefined;

  constructor(ast: SelectorNode) {
    this.ast = ast;
    this.canonical = canonicalText(ast);
  }

  matches(labels: LabelSource): boolean {
    this.#matcher ??= compileMatcher(this.ast);
    return this.#matcher(labels);
  }

  /** The id of the set of addresses this selector stands for; the same on every node and in upstream. */
  get uniqueId(): string {
    this.#uniqueId ??= hashedId("s", this.canonical);
    return this.#uniqueId;
  }

  get restrictions(): LabelRestrictions {
    this.#restrictions ??= labelRestrictions(this.ast);
    return this.#restrictions;
  }

  toString(): string {
    return this.canonical;
  }
}

/** Empty text selects everything. @throws CalicoError BAD_INPUT with `detail.column` */
export const parseSelector = (text: string): Selector => new Selector(parseNode(text));

/** `<kind>:` + base64url(SHA-224(`<kind>:` + text)): `s` selectors, `n` named ports, `svc` and `svcnoport` services. */
export const hashedId = (kind: "s" | "n" | "svc" | "svcnoport", text: string): string =>
  `${kind}:${sha224Base64Url(`${kind}:${text}`)}`;
