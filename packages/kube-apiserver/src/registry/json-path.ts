/**
 * The JSONPath dialect of CRD columns and `kubectl`: `.spec.cidr`, `.status.conditions[?(@.type=="Ready")].status`,
 * `[0]`, `['a.b']`, `[*]`. Anything else yields nothing.
 */
import { isObject, sameJson } from "@calico-ts/schema";

type Step =
  | { readonly kind: "field"; readonly name: string }
  | { readonly kind: "index"; readonly index: number }
  | { readonly kind: "all" }
  | { readonly kind: "filter"; readonly path: readonly Step[]; readonly operator: string; readonly value: unknown };

export type JsonPath = (root: unknown) => unknown[];

export function compileJsonPath(text: string): JsonPath {
  const steps = parse(
    text
      .trim()
      .replace(/^\{(.*)\}$/, "$1")
      .replace(/^\$/, ""),
  );
  return steps === undefined ? () => [] : (root) => run(steps, root);
}

function parse(text: string): Step[] | undefined {
  const steps: Step[] = [];
  let rest = text;
  while (rest !== "") {
    const match =
      /^\.?\[\?\(@((?:\.[\w-]+)+)\s*(==|!=)\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+))\)\]/.exec(rest) ??
      /^\.?\[(?:'([^']*)'|"([^"]*)"|(-?\d+)|(\*))\]/.exec(rest) ??
      /^\.((?:\\.|[\w-])+)/.exec(rest);
    if (match === null) return undefined;
    rest = rest.slice(match[0].length);
    if (match[0].includes("?(")) {
      const inner = parse(match[1] ?? "");
      if (inner === undefined) return undefined;
      const bare = match[5];
      const value =
        bare === undefined
          ? (match[3] ?? match[4] ?? "")
          : bare === "true"
            ? true
            : bare === "false"
              ? false
              : Number(bare);
      steps.push({ kind: "filter", path: inner, operator: match[2] ?? "==", value });
    } else if (match[4] === "*") steps.push({ kind: "all" });
    else if (match[3] !== undefined) steps.push({ kind: "index", index: Number(match[3]) });
    else steps.push({ kind: "field", name: (match[1] ?? match[2] ?? "").replaceAll(/\\(.)/g, "$1") });
  }
  return steps;
}

function run(steps: readonly Step[], root: unknown): unknown[] {
  let values: unknown[] = [root];
  for (const step of steps) values = values.flatMap((value) => advance(step, value));
  return values;
}

function advance(step: Step, value: unknown): unknown[] {
  switch (step.kind) {
    case "field":
      return isObject(value) && Object.hasOwn(value, step.name) && value[step.name] !== undefined
        ? [value[step.name]]
        : [];
    case "index":
      return Array.isArray(value) ? value.slice(step.index, step.index === -1 ? undefined : step.index + 1) : [];
    case "all":
      return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
    case "filter":
      return Array.isArray(value)
        ? value.filter(
            (item) => run(step.path, item).some((found) => sameJson(found, step.value)) === (step.operator === "=="),
          )
        : [];
  }
}
