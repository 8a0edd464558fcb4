/**
 * Label selectors: the query text (`a=b,c!=d,e in (f,g),!h`) and the object form (matchLabels, matchExpressions).
 * Source: Kubernetes documentation, "Labels and Selectors". A missing key satisfies `!=` and `notin`.
 */
import { badRequest } from "../meta/api-error.ts";
import { asObjects, asText, asTextMap, asTexts } from "../meta/object.ts";
import { asObject } from "../meta/object.ts";

export type LabelOperator = "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";

export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  readonly values: readonly string[];
}

export type Labels = { readonly [key: string]: string };

export function matchesLabels(requirements: readonly LabelRequirement[], labels: Labels | undefined): boolean {
  return requirements.every((requirement) => matchesOne(requirement, labels));
}

function matchesOne({ key, operator, values }: LabelRequirement, labels: Labels | undefined): boolean {
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
  }
}

/** @throws ApiError 400 when the text is no selector. */
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
  badRequest(
    `unable to parse requirement: found '${rest}' in the selector ${JSON.stringify(text)}, expected: a label key, '!', 'in', 'notin', '=', '!='`,
  );

/** The object form. An empty selector matches everything; undefined matches nothing. */
export function labelSelectorOf(selector: unknown): LabelRequirement[] | undefined {
  if (selector === undefined || selector === null) return undefined;
  const { matchLabels, matchExpressions } = asObject(selector) as { matchLabels?: unknown; matchExpressions?: unknown };
  const requirements: LabelRequirement[] = Object.entries(asTextMap(matchLabels)).map(([key, value]) => ({
    key,
    operator: "In",
    values: [value],
  }));
  for (const expression of asObjects(matchExpressions)) {
    const operator = asText(expression["operator"]) as LabelOperator;
    requirements.push({ key: asText(expression["key"]), operator, values: asTexts(expression["values"]) });
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
