import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasCode } from "@calico-ts/std";
import { afterAll, describe, expect, test } from "vitest";
import { danglingNames, expandExpectations, readExpectations } from "./expectations.ts";

const folder = mkdtempSync(join(tmpdir(), "ct-expect-"));
afterAll(() => rmSync(folder, { recursive: true }));

function read(text: string) {
  const path = join(folder, "e.yaml");
  writeFileSync(path, text);
  return readExpectations(path);
}

function problems(text: string): string {
  try {
    read(text);
  } catch (error) {
    if (!hasCode(error, "BAD_INPUT")) throw error;
    return (error as Error).message.replaceAll(`${folder}/`, "");
  }
  return "";
}

const pod = (namespace: string, name: string, workload = name) => ({ namespace, name, owners: [{ name: workload }] });

describe("flows", () => {
  test("lists multiply, defaults are filled in, the line is kept", () => {
    const { flows } = read(
      "flows:\n  - {from: [a/x, a/y], to: [b/z, 10.0.0.1], port: 80, expect: denied, because: why}\n",
    );
    expect(flows).toHaveLength(4);
    expect(flows[3]).toEqual({
      from: "a/y",
      to: "10.0.0.1",
      port: 80,
      protocol: "tcp",
      expect: "denied",
      because: "why",
      source: join(folder, "e.yaml:2"),
    });
  });

  test("a bare list is a list of flows, and is blamed by its own lines", () => {
    expect(read("- {from: a/x, to: a/y, protocol: icmp, expect: allowed}\n").flows[0]?.port).toBe(0);
    expect(
      problems("- {from: a/x, to: a/y, port: 80, expect: allowed}\n- {from: a/x, to: a/y, expect: allowed}\n"),
    ).toMatch(/^e\.yaml:2:3: \[1\]: needs a port|^e\.yaml:2:3: flows\[1\]: needs a port/);
  });

  test.each([
    ["port: 80, expect: maybe", /expect: Unsupported value: "maybe"/],
    ["port: 80, expect: denied, colour: red", /colour: unknown field/],
    ["port: 0, expect: denied", /port: /],
    ["expect: denied", /needs a port/],
  ])("%s", (rest, message) => {
    expect(problems(`flows:\n  - {from: a/x, to: a/y, ${rest}}\n`)).toMatch(message);
    expect(problems(`flows:\n  - {from: a/x, to: a/y, ${rest}}\n`)).toMatch(/^e\.yaml:2:/);
  });

  test("an empty file, and one that expects nothing", () => {
    expect(problems("")).toMatch(/empty/);
    expect(problems("{}")).toMatch(/expects nothing/);
  });
});

describe("the matrix form", () => {
  const text = `matrix:
  otherwise: denied
  allowed:
    shop/front: [shop/cart:7070, "shop/dns:53/udp"]
    "*": [shop/front:8080]
  denied:
    other/*: ["shop/front:8080"]
`;
  const pods = [pod("shop", "front-1", "front"), pod("shop", "cart-1", "cart"), pod("other", "spy")];

  test("covers every pair; the first statement that names it counts", () => {
    const pairs = [
      { from: "shop/front-1", to: "shop/cart-1", port: 7070, protocol: "tcp" as const },
      { from: "other/spy", to: "shop/cart-1", port: 7070, protocol: "tcp" as const },
      { from: "other/spy", to: "shop/front-1", port: 8080, protocol: "tcp" as const },
    ];
    const expected = expandExpectations(read(text), pods, pairs);
    expect(expected.map(({ from, expect }) => `${from} ${expect}`)).toEqual([
      "shop/front-1 allowed",
      "other/spy denied",
      "other/spy allowed",
    ]);
  });

  test("tells names that mean nobody", () => {
    const { matrix } = read(text);
    expect(matrix && danglingNames(matrix, pods)).toEqual([
      expect.stringMatching(/e\.yaml:4: no pod or workload named shop\/dns$/),
    ]);
  });

  test("refuses a destination without a port, by line", () => {
    expect(problems(`matrix:\n  otherwise: denied\n  allowed:\n    shop/front: [shop/cart]\n`)).toMatch(
      /^e\.yaml:4:18: .*write NAMESPACE\/POD:PORT/,
    );
  });
});
