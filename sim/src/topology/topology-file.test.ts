import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatAddress, formatPrefix } from "@calico-ts/net";
import { hasCode } from "@calico-ts/std";
import { afterAll, describe, expect, test } from "vitest";
import { shippedNames, topologyPath } from "./shipped.ts";
import { loadTopology } from "./topology-file.ts";
import { topologyJsonSchema } from "./topology-schema.ts";

const folder = mkdtempSync(join(tmpdir(), "ct-topology-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, "t.yaml");
  writeFileSync(path, text);
  return path;
}

/** The problems, one per line, with the folder's name cut off. */
function problems(text: string, nodes?: number): string[] {
  try {
    loadTopology(file(text), nodes === undefined ? {} : { nodes });
  } catch (error) {
    if (!hasCode(error, "BAD_INPUT")) throw error;
    return (error as Error).message.split("\n").map((line) => line.replaceAll(`${folder}/`, ""));
  }
  return [];
}

const GOOD = `subnets:
  - {name: a, cidr: 10.1.0.0/24}
nodes:
  - {count: 2}
pools:
  - {name: p, cidr: 10.2.0.0/16}
`;

describe("shipped topologies", () => {
  test.each(shippedNames())("%s is valid", (name) => {
    const plan = loadTopology(topologyPath(name));
    expect(plan.nodes.length).toBeGreaterThanOrEqual(3);
    for (const node of plan.nodes) expect(node.routes.some((route) => route.to === undefined)).toBe(true);
  });

  test("the JSON Schema on disk is the one the code checks with", () => {
    const onDisk: unknown = JSON.parse(readFileSync(new URL("../../topology.schema.json", import.meta.url), "utf8"));
    expect(onDisk).toEqual(topologyJsonSchema());
  });
});

describe("a plan", () => {
  test("names nodes, gives addresses and a way out", () => {
    const plan = loadTopology(file(GOOD));
    expect(plan.nodes.map((node) => [node.name, ...node.addresses.map(formatAddress)])).toEqual([
      ["node-1", "10.1.0.11"],
      ["node-2", "10.1.0.12"],
    ]);
    expect(plan.controlPlane.addresses.map(formatAddress)).toEqual(["10.1.0.1"]);
    expect(plan.nodes[0]?.routes.map((route) => formatAddress(route.via))).toEqual(["10.1.0.1"]);
    expect(plan.serviceCidrs.map(formatPrefix)).toEqual(["10.96.0.0/16"]);
    expect(plan.pools[0]).toMatchObject({ blockSize: 26, encapsulation: "none", natOutgoing: true });
  });

  test("--nodes spreads over the counted entries", () => {
    const plan = loadTopology(topologyPath("two-racks"), { nodes: 5 });
    expect(plan.nodes.map((node) => `${node.name}@${node.subnet}`)).toEqual([
      "node-1@rack-1",
      "node-2@rack-1",
      "node-3@rack-1",
      "node-4@rack-2",
      "node-5@rack-2",
    ]);
  });

  test("racks are reached through routers, several hops away too", () => {
    const plan = loadTopology(
      file(`subnets:
  - {name: a, cidr: 10.1.1.0/24}
  - {name: b, cidr: 10.1.2.0/24}
  - {name: c, cidr: 10.1.3.0/24}
routers:
  - {name: r1, subnets: [a, b]}
  - {name: r2, subnets: [b, c]}
nodes:
  - {count: 1, subnet: c}
pools: [{name: p, cidr: 10.2.0.0/16}]
`),
    );
    const routes = (
      list: readonly { to: Parameters<typeof formatPrefix>[0] | undefined; via: Parameters<typeof formatAddress>[0] }[],
    ) =>
      list.map(
        (route) => `${route.to === undefined ? "default" : formatPrefix(route.to)} via ${formatAddress(route.via)}`,
      );
    expect(routes(plan.nodes[0]?.routes ?? [])).toEqual(["default via 10.1.3.1"]);
    expect(routes(plan.routers[1]?.routes ?? [])).toEqual(["10.1.1.0/24 via 10.1.2.1", "default via 10.1.2.1"]);
    expect(routes(plan.routers[0]?.routes ?? [])).toEqual(["10.1.3.0/24 via 10.1.2.2", "default via 10.1.1.2"]);
    expect(routes(plan.controlPlane.routes)).toEqual(["10.1.2.0/24 via 10.1.1.1", "10.1.3.0/24 via 10.1.1.1"]);
  });

  test("has both families when the file does", () => {
    const plan = loadTopology(
      file(`subnets: [{name: a, cidr: "10.1.0.0/24,fd00:1::/64"}]
nodes: [{name: n, address: "10.1.0.9,fd00:1::9"}]
pools: [{name: p, cidr: 10.2.0.0/16}, {name: q, cidr: "fd00:2::/112"}]
cluster: {serviceCidr: "10.96.0.0/16,fd00:3::/112"}
`),
    );
    expect(plan.nodes[0]?.addresses.map(formatAddress)).toEqual(["10.1.0.9", "fd00:1::9"]);
    expect(plan.nodes[0]?.routes.map((route) => route.family)).toEqual([4, 6]);
  });
});

describe("problems", () => {
  test("not YAML", () => {
    expect(problems("subnets: [\n")[0]).toMatch(/^t\.yaml:\d+:\d+: /);
    expect(problems("")).toEqual(["t.yaml:1:1: holds no topology: the file is empty"]);
  });

  test("unknown fields and bad values, all at once, by line", () => {
    const found = problems(`subnets:
  - {name: a, cidr: 10.1.0.0/24, colour: red}
nodes:
  - {count: two}
pools:
  - {name: P!, cidr: 10.2.0.0/16, encapsulation: gre}
`);
    expect(found).toEqual([
      expect.stringMatching(/^t\.yaml:2:34: subnets\[0\]\.colour: unknown field; known here: name, cidr, mtu$/),
      expect.stringMatching(/^t\.yaml:4:6: nodes\[0\]\.count: must be of type integer/),
      expect.stringMatching(/^t\.yaml:6:6: pools\[0\]\.name: .*P!/),
      expect.stringMatching(
        /^t\.yaml:6:35: pools\[0\]\.encapsulation: Unsupported value: "gre": supported values: "none", "ipip", "vxlan"$/,
      ),
    ]);
  });

  test.each([
    [
      "overlapping pools",
      GOOD.replace(
        "- {name: p, cidr: 10.2.0.0/16}",
        "- {name: p, cidr: 10.2.0.0/16}\n  - {name: q, cidr: 10.2.128.0/17}",
      ),
      /^t\.yaml:7:15: pools\[1\]\.cidr: 10\.2\.128\.0\/17 overlaps pool p \(10\.2\.0\.0\/16\)$/,
    ],
    ["pool over subnet", GOOD.replace("10.2.0.0/16", "10.0.0.0/12"), /overlaps subnet a/],
    ["pool over services", GOOD.replace("10.2.0.0/16", "10.96.0.0/12"), /overlaps the service range/],
    ["host bits", GOOD.replace("10.2.0.0/16", "10.2.0.1/16"), /did you mean 10\.2\.0\.0\/16\?/],
    [
      "address outside",
      GOOD.replace("{count: 2}", "{name: n, address: 10.9.0.1}"),
      /^t\.yaml:4:15: nodes\[0\]\.address: 10\.9\.0\.1 lies outside subnet a \(10\.1\.0\.0\/24\)$/,
    ],
    [
      "network address",
      GOOD.replace("{count: 2}", "{name: n, address: 10.1.0.0}"),
      /already belongs to the subnet itself/,
    ],
    [
      "same address twice",
      GOOD.replace("{count: 2}", "{name: n, address: 10.1.0.7}\n  - {name: m, address: 10.1.0.7}"),
      /^t\.yaml:5:15: nodes\[1\]\.address: 10\.1\.0\.7 already belongs to node n$/,
    ],
    [
      "duplicate node",
      GOOD.replace("{count: 2}", "{name: n}\n  - {name: n}"),
      /^t\.yaml:5:6: nodes\[1\]\.name: a second node named "n"/,
    ],
    [
      "counted and named clash",
      GOOD.replace("{count: 2}", "{count: 2}\n  - {name: node-2}"),
      /a second node named "node-2"/,
    ],
    ["pool too small for the nodes", GOOD.replace("10.2.0.0/16", "10.2.0.0/26"), /hold 1 block for 2 nodes/],
    ["pool smaller than a block", GOOD.replace("10.2.0.0/16", "10.2.0.0/28"), /smaller than one block/],
    [
      "subnet too small",
      GOOD.replace("10.1.0.0/24", "10.1.0.0/29").replace("count: 2", "count: 9"),
      /too few addresses/,
    ],
    [
      "no router",
      GOOD.replace("nodes:", "  - {name: b, cidr: 10.3.0.0/24}\nnodes:").replace("count: 2", "count: 2, subnet: a"),
      /no router joins subnet b to a/,
    ],
    ["unknown subnet", GOOD.replace("count: 2", "count: 2, subnet: z"), /there is no subnet named "z"; there are: a/],
    ["neither name nor count", GOOD.replace("count: 2", "labels: {a: b}"), /needs a name, or a count/],
    ["mode without encapsulation", GOOD.replace("10.2.0.0/16}", "10.2.0.0/16, mode: always}"), /encapsulation is none/],
  ])("%s", (_name, text, expected) => {
    const found = problems(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(expected);
  });

  test("--nodes with named nodes", () => {
    expect(problems(GOOD.replace("count: 2", "name: n"), 3)[0]).toMatch(/--nodes 3: .* names its nodes one by one/);
  });

  test("no such topology", () => {
    expect(() => topologyPath("nope")).toThrow(/two-racks/);
  });
});
