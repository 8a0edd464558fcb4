import { describe, expect, test } from "vitest";
import { formatLabelSelector, labelSelectorOf, matchesLabels, parseLabelSelector } from "./label-selector.ts";

const labels = { app: "web", tier: "front", rank: "7" };

describe("the query text", () => {
  test.each([
    ["", true],
    ["app=web", true],
    ["app==web,tier!=back", true],
    ["app=db", false],
    ["missing!=x", true],
    ["tier in (front,back)", true],
    ["tier notin (front)", false],
    ["missing notin (x)", true],
    ["app,!missing", true],
    ["!app", false],
    ["rank>6,rank<8", true],
    ["rank>7", false],
    ["app>1", false],
    ["constructor", false],
    ["example.com/a.b-c_d=1", false],
  ])("%s is %s", (text, wanted) => {
    const requirements = parseLabelSelector(text);
    expect(matchesLabels(requirements, labels)).toBe(wanted);
    expect(parseLabelSelector(formatLabelSelector(requirements))).toEqual(requirements);
  });

  test.each(["app=", "app in ()"])("%s asks for the empty value", (text) => {
    expect(matchesLabels(parseLabelSelector(text), { app: "" })).toBe(true);
  });

  test.each(["=", "a=b,", ",a", "a in b", "a=b c", "a in (b", "(a)", "a=$"])("%s is refused by name", (text) => {
    expect(() => parseLabelSelector(text)).toThrow(
      expect.objectContaining({ code: "BAD_INPUT", message: expect.stringContaining(JSON.stringify(text)) }),
    );
  });

  test("without labels only what demands none matches", () => {
    expect(matchesLabels(parseLabelSelector("!a,b!=1"), undefined)).toBe(true);
    expect(matchesLabels(parseLabelSelector("a"), undefined)).toBe(false);
  });
});

describe("the object form", () => {
  test.each([
    [{}, true],
    [{ matchLabels: { app: "web" } }, true],
    [{ matchLabels: { app: "web", tier: "back" } }, false],
    [{ matchExpressions: [{ key: "tier", operator: "In", values: ["front"] }] }, true],
    [{ matchExpressions: [{ key: "tier", operator: "NotIn", values: ["front"] }] }, false],
    [{ matchExpressions: [{ key: "app", operator: "Exists" }] }, true],
    [{ matchExpressions: [{ key: "app", operator: "DoesNotExist" }] }, false],
    [{ matchExpressions: [{ key: "rank", operator: "Gt", values: ["6"] }] }, true],
    [{ matchExpressions: [{ key: "app", operator: "Like", values: ["web"] }] }, false],
    [{ matchExpressions: [{ key: "app", operator: "In" }] }, false],
  ])("%j is %s", (selector, wanted) => {
    expect(matchesLabels(labelSelectorOf(selector) ?? [], labels)).toBe(wanted);
  });

  test("none at all is told apart from an empty one", () => {
    expect([undefined, null, "x"].map(labelSelectorOf)).toEqual([undefined, undefined, undefined]);
    expect(labelSelectorOf({})).toEqual([]);
  });
});
