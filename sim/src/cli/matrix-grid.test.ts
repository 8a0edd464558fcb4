import { stripVTControlCharacters } from "node:util";
import colorsModule from "picocolors";
import { describe, expect, test } from "vitest";
import type { ProbeResult, Verdict } from "../probe/probe-request.ts";
import { labelPods } from "../daemon/run-control.ts";
import { formatMatrix } from "./matrix-grid.ts";
import { formatTable } from "./table.ts";

const plain = colorsModule.createColors(false);
const result = (from: string, to: string, port: number, verdict: Verdict): ProbeResult => ({
  from,
  to,
  port,
  protocol: "tcp",
  verdict,
  latencyMs: 1,
  detail: "",
});
const pods = [
  { pod: "shop/cart-1", label: "shop/cart" },
  { pod: "shop/web-1", label: "shop/web" },
];
const results = [
  result("shop/web-1", "shop/cart-1", 7070, "allowed"),
  result("shop/web-1", "shop/cart-1", 9090, "denied"),
  result("shop/cart-1", "shop/web-1", 80, "error"),
];

describe("the matrix for people", () => {
  test("is a grid with a legend", () => {
    expect(formatMatrix({ results, pods }, { colors: plain, width: 80 })).toBe(
      [
        "          1 2 3",
        "shop/web  ● ✗ ·",
        "shop/cart · · !",
        "",
        " 1  shop/cart 7070/tcp",
        " 2  shop/cart 9090/tcp",
        " 3  shop/web 80/tcp",
        "",
        "● allowed 1   ✗ denied 1   ! error 1 (the reasons: matrix --json)",
      ].join("\n"),
    );
  });

  test("colours change no position", () => {
    const colors = colorsModule.createColors(true);
    const stripped = stripVTControlCharacters(formatMatrix({ results, pods }, { colors, width: 80 }));
    expect(stripped).toBe(formatMatrix({ results, pods }, { colors: plain, width: 80 }));
  });

  test("is broken into parts where the terminal is narrow", () => {
    const parts = formatMatrix({ results, pods }, { colors: plain, width: 14 }).split("\n\n");
    expect(parts[0]).toBe("          1 2\nshop/web  ● ✗\nshop/cart · ·".replaceAll("  1 2", "  1 2"));
    expect(parts[1]).toContain("3");
  });

  test("says why there is nothing to show", () => {
    expect(formatMatrix({ results: [], pods: [] }, { colors: plain, width: 80 })).toMatch(/nothing to probe/);
  });
});

test("pods go by their workload's name when they are its only one", () => {
  const pod = (name: string, ...owners: string[]) => ({
    namespace: "n",
    name,
    owners: owners.map((owner) => ({ kind: "x", name: owner })),
  });
  expect(
    labelPods([pod("a-1-x", "a-1", "a"), pod("b-1-x", "b-1", "b"), pod("b-1-y", "b-1", "b"), pod("lone")]),
  ).toEqual([
    { pod: "n/a-1-x", label: "n/a" },
    { pod: "n/b-1-x", label: "n/b-1-x" },
    { pod: "n/b-1-y", label: "n/b-1-y" },
    { pod: "n/lone", label: "n/lone" },
  ]);
});

test("tables are as wide as their widest cell, colours aside", () => {
  const colors = colorsModule.createColors(true);
  expect(
    formatTable(
      ["A", "B"],
      [
        ["xx", "y"],
        [colors.red("z"), "w"],
      ],
    )
      .split("\n")
      .map((line) => stripVTControlCharacters(line)),
  ).toEqual(["A   B", "xx  y", "z   w"]);
});
