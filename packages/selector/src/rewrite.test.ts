import { describe, expect, test } from "vitest";
import type { EntitySelectors } from "./rewrite.ts";
import { andSelectors, entitySelector, globalPolicySelector, networkPolicySelector, prefixLabels } from "./rewrite.ts";
import { parseSelector } from "./selector.ts";

const text = (source: string): string => parseSelector(source).canonical;

describe("what a NetworkPolicy applies to", () => {
  test.each([
    ["", undefined, "projectcalico.org/namespace == 'ns'"],
    ["a == 'b'", undefined, "a == 'b' && projectcalico.org/namespace == 'ns'"],
    ["a == 'b' || has(c)", undefined, "(a == 'b' || has(c)) && projectcalico.org/namespace == 'ns'"],
    ["all()", undefined, "all() && projectcalico.org/namespace == 'ns'"],
    ["", "role == 'x'", "projectcalico.org/namespace == 'ns' && pcsa.role == 'x'"],
    ["all()", "all()", "(all() && projectcalico.org/namespace == 'ns') && all()"],
  ])("selector %j, accounts %j", (selector, serviceAccountSelector, expected) => {
    const spec = { selector, ...(serviceAccountSelector === undefined ? {} : { serviceAccountSelector }) };
    expect(networkPolicySelector("ns", spec).canonical).toBe(text(expected));
  });
});

describe("what a GlobalNetworkPolicy applies to", () => {
  test.each([
    [{}, "all()"],
    [{ selector: "a == 'b'" }, "a == 'b'"],
    [{ namespaceSelector: "x == 'y'" }, "pcns.x == 'y'"],
    [{ namespaceSelector: "all()" }, "has(projectcalico.org/namespace)"],
    [{ selector: "a == 'b'", namespaceSelector: "!has(x)" }, "a == 'b' && !has(pcns.x)"],
    // The replacement of all() reaches the endpoint part too.
    [
      { selector: "a == 'b' || all()", namespaceSelector: "!has(x)" },
      "(a == 'b' || has(projectcalico.org/namespace)) && !has(pcns.x)",
    ],
    [{ selector: "all()" }, "all()"],
    [{ serviceAccountSelector: "all()" }, "has(projectcalico.org/serviceaccount)"],
    [
      { selector: "all()", namespaceSelector: "all()", serviceAccountSelector: "x == 'y'" },
      "(has(projectcalico.org/namespace) && has(projectcalico.org/namespace)) && pcsa.x == 'y'",
    ],
  ])("%j", (spec, expected) => {
    expect(globalPolicySelector(spec).canonical).toBe(text(expected));
  });
});

describe("what one side of a rule selects", () => {
  const NS = "projectcalico.org/namespace == 'ns'";

  test.each<[string, EntitySelectors, string | undefined, string | undefined]>([
    ["nothing by label", {}, "ns", undefined],
    ["nothing by label, cluster-wide", {}, undefined, undefined],
    ["own namespace by default", { selector: "a == 'b'" }, "ns", `${NS} && a == 'b'`],
    ["everything in a cluster-wide policy", { selector: "a == 'b'" }, undefined, "a == 'b'"],
    ["notSelector alone restricts to the own namespace", { notSelector: "a == 'b'" }, "ns", NS],
    ["notSelector alone, cluster-wide", { notSelector: "a == 'b'" }, undefined, undefined],
    ["namespaces by label", { namespaceSelector: "x == 'y'" }, "ns", "pcns.x == 'y'"],
    [
      "namespaces and endpoints",
      { namespaceSelector: "x == 'y'", selector: "a == 'b'" },
      "ns",
      "pcns.x == 'y' && a == 'b'",
    ],
    ["all namespaces", { namespaceSelector: "all()" }, "ns", "has(projectcalico.org/namespace)"],
    ["no namespace", { namespaceSelector: "global()" }, "ns", "!has(projectcalico.org/namespace)"],
    [
      "all() of endpoints stays",
      { namespaceSelector: "global()", selector: "all()" },
      "ns",
      "!has(projectcalico.org/namespace) && all()",
    ],
    [
      "accounts by name",
      { serviceAccounts: { names: ["b", "a", "b"] } },
      "ns",
      `${NS} && projectcalico.org/serviceaccount in {'a', 'b'}`,
    ],
    [
      "accounts by label and name, cluster-wide",
      { serviceAccounts: { names: ["a"], selector: "r == 'x'" } },
      undefined,
      "pcsa.r == 'x' && projectcalico.org/serviceaccount in {'a'}",
    ],
    ["all accounts", { serviceAccounts: { selector: "all()" } }, undefined, "all()"],
    [
      "namespaces, accounts and endpoints",
      { namespaceSelector: "has(x)", serviceAccounts: { names: ["a"] }, selector: "has(y)" },
      "ns",
      "has(pcns.x) && (projectcalico.org/serviceaccount in {'a'} && has(y))",
    ],
    ["an empty account match says nothing", { serviceAccounts: { names: [] } }, "ns", undefined],
  ])("%s", (_, entity, namespace, expected) => {
    expect(entitySelector(entity, namespace)?.canonical).toBe(expected === undefined ? undefined : text(expected));
  });

  test("!global() means in some namespace", () => {
    expect(entitySelector({ namespaceSelector: "!global()" })?.canonical).toBe("has(projectcalico.org/namespace)");
  });

  test("a selector that does not parse is BAD_INPUT", () => {
    expect(() => entitySelector({ selector: "a ==" })).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
  });
});

test("prefixes go to every label and to nothing else", () => {
  const selector = parseSelector("a == 'a' && !has(b) || c in {'a'} && all() && d ends with 'a'");
  expect(prefixLabels(selector, "p.").canonical).toBe(
    text("p.a == 'a' && !has(p.b) || p.c in {'a'} && all() && p.d ends with 'a'"),
  );
});

test("and nests", () => {
  expect(andSelectors(parseSelector("has(a) && has(b)"), parseSelector("has(c)")).canonical).toBe(
    "((has(a) && has(b)) && has(c))",
  );
});
