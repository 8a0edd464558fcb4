/**
 * Label selectors: the query text (`a=b,c!=d,e in (f,g),!h`) and the object form (matchLabels, matchExpressions).
 * Source: Kubernetes documentation, "Labels and Selectors". A missing key satisfies `!=` and `notin`.
 */
import { CalicoError } from "@calico-ts/std";
import { isObject } from "./schema.ts";

export type LabelOperator = "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";

export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  readonly values: readonly string[];
}

export type Labels = { readonly [key: string]: string };

export function matchesLabels(requirements: readonly LabelRequirement[], labels: Labels | undefined): boolean {
  return requirements.every((requirement) => matchesRequirement(requirement, labels));
}

export function matchesRequirement({ key, operator, values }: LabelRequirement, labels: Labels | undefined): boolean {
  const value = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
      return value !== undefined && Number(value) > Number(values[0]);
    case "Lt":
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}

/** The query text. @throws CalicoError BAD_INPUT when it is no selector, in the API server's words */
export function parseLabelSelector(text: string): LabelRequirement[] {
  const requirements: LabelRequirement[] = [];
  let rest = text.trim();
  while (rest !== "") {
    const match = REQUIREMENT.exec(rest);
    if (match === null) throw unreadable(text, rest);
    requirements.push(requirementOf(match, text));
    rest = rest.slice(match[0].length);
    if (rest === "") break;
    if (!rest.startsWith(",")) throw unreadable(text, rest);
    rest = rest.slice(1).trim();
    if (rest === "") throw unreadable(text, rest);
  }
  return requirements;
}

const KEY = String.raw`[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?`;
const VALUE = String.raw`(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?`;
const REQUIREMENT = new RegExp(
  String.raw`^\s*(?:!\s*(?<absent>${KEY})|(?<key>${KEY})\s*(?:(?<set>in|notin)\s*\((?<values>[^()]*)\)|(?<operator>==|!=|=|>|<)\s*(?<value>${VALUE}))?)\s*(?=,|$)`,
);

function requirementOf(match: RegExpExecArray, text: string): LabelRequirement {
  const groups: { readonly [name: string]: string | undefined } = match.groups ?? {};
  const absent = groups["absent"];
  if (absent !== undefined) return { key: absent, operator: "DoesNotExist", values: [] };
  const key = groups["key"] ?? "";
  const set = groups["set"];
  if (set !== undefined) {
    const values = (groups["values"] ?? "").split(",").map((value) => value.trim());
    if (values.some((value) => !new RegExp(`^${VALUE}$`).test(value))) throw unreadable(text, match[0]);
    return { key, operator: set === "in" ? "In" : "NotIn", values };
  }
  const value = groups["value"] ?? "";
  switch (groups["operator"]) {
    case undefined:
      return { key, operator: "Exists", values: [] };
    case "!=":
      return { key, operator: "NotIn", values: [value] };
    case ">":
      return { key, operator: "Gt", values: [value] };
    case "<":
      return { key, operator: "Lt", values: [value] };
    default:
      return { key, operator: "In", values: [value] };
  }
}

const unreadable = (text: string, rest: string): Error =>
  new CalicoError(
    "BAD_INPUT",
    `unable to parse requirement: found '${rest}' in the selector ${JSON.stringify(text)}, expected: a label key, '!', 'in', 'notin', '=', '!='`,
  );

/**
 * The object form (metav1.LabelSelector). An empty selector matches everything; undefined, for none at all, is the caller's to judge. Parts that are not
 * what the schema says are left out, since validation would have refused them; an operator nobody knows matches nothing.
 */
export function labelSelectorOf(selector: unknown): LabelRequirement[] | undefined {
  if (!isObject(selector)) return undefined;
  const { matchLabels, matchExpressions } = selector;
  const requirements: LabelRequirement[] = [];
  for (const [key, value] of Object.entries(isObject(matchLabels) ? matchLabels : {}))
    if (typeof value === "string") requirements.push({ key, operator: "In", values: [value] });
  for (const expression of Array.isArray(matchExpressions) ? matchExpressions : []) {
    if (!isObject(expression) || typeof expression["key"] !== "string") continue;
    const { key, operator, values } = expression;
    const texts = Array.isArray(values) ? values.filter((value) => typeof value === "string") : [];
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- another one matches nothing, see matchesRequirement
    requirements.push({ key, operator: operator as LabelOperator, values: texts });
  }
  return requirements;
}

/** The text form of a requirement list, as `status.selector` of a scale carries it. */
export function formatLabelSelector(requirements: readonly LabelRequirement[]): string {
  return requirements
    .map(({ key, operator, values }) => {
      switch (operator) {
        case "In":
          return values.length === 1 ? `${key}=${values[0] ?? ""}` : `${key} in (${values.join(",")})`;
        case "NotIn":
          return values.length === 1 ? `${key}!=${values[0] ?? ""}` : `${key} notin (${values.join(",")})`;
        case "Exists":
          return key;
        case "DoesNotExist":
          return `!${key}`;
        case "Gt":
          return `${key}>${values[0] ?? ""}`;
        case "Lt":
          return `${key}<${values[0] ?? ""}`;
        default:
          return key;
      }
    })
    .join(",");
}
