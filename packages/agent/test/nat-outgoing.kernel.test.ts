/** NAT outgoing, seen from outside: which address and port a pod's connection comes from. */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DataplaneNode } from "../testing/dataplane-node.ts";
import { eventually, Lab } from "../testing/lab.ts";
import { openProfile, workload } from "../testing/messages.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const POD = "10.65.1.2";
const OUTSIDE = "192.168.0.2";
/** Of the pool, yet on the outside machine: traffic between pools is not translated. */
const IN_POOL = "10.65.9.9";
const PORT = 7070;

const pool: DataplaneMessage = {
  kind: "pool-update",
  id: "p",
  pool: { cidr: "10.65.0.0/16", natOutgoing: true, ipip: "never", vxlan: "never" },
};
const host = (n: number): DataplaneMessage => ({
  kind: "host-update",
  node: `n${n}`,
  addresses: { ipv4: `192.168.0.${n}` },
});

interface Case {
  readonly name: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly to: string;
  readonly from: RegExp;
}

test.each<Case>([
  { name: "the node's address", settings: {}, to: OUTSIDE, from: /^192\.168\.0\.1:\d+$/ },
  {
    name: "a port of the range",
    settings: { natPortRange: "20000:20009" },
    to: OUTSIDE,
    from: /^192\.168\.0\.1:2000\d$/,
  },
  {
    name: "the address that is set",
    settings: { natOutgoingAddress: "192.168.0.9" },
    to: OUTSIDE,
    from: /^192\.168\.0\.9:\d+$/,
  },
  { name: "the pod's own, to another pool's address", settings: {}, to: IN_POOL, from: /^10\.65\.1\.2:\d+$/ },
  {
    name: "the pod's own, to a node when nodes are excluded",
    settings: { natOutgoingExclusions: "IPPoolsAndHostIPs" },
    to: OUTSIDE,
    from: /^10\.65\.1\.2:\d+$/,
  },
])("a pod's connection comes from $name", async ({ settings, to, from }) => {
  const [n1 = "", n2 = ""] = lab.nodes(2);
  const pod = lab.pod(n1, "default/p1", POD);
  lab.ip(n1, "address add 192.168.0.9/32 dev eth0");
  lab.ip(n1, `route add ${IN_POOL}/32 via ${OUTSIDE}`);
  lab.ip(n2, `address add ${IN_POOL}/32 dev lo`);
  lab.ip(n2, "route add 10.65.1.0/24 via 192.168.0.1");
  const script = `require("node:net").createServer(s=>{s.on("error",()=>{});console.log("from "+s.remoteAddress+":"+s.remotePort+";")}).listen(${PORT},"0.0.0.0",()=>console.log("up"))`;
  const server = await lab.start(n2, [process.execPath, "-e", script], "up");
  const config = { ipv6Support: "false", programClusterRoutes: "Disabled", ...settings };
  await using agent = new DataplaneNode({ netns: lab.path(n1), folder: lab.folder, config, routeGraceMs: 200 });
  const web = workload(pod.interfaceName, pod.address, {});
  await agent.send({ kind: "config-update", config }, openProfile, web, pool, host(1), host(2));

  await eventually("a connection", () => lab.connects(pod.namespace, to, PORT));
  await eventually("the server says from where", () => server.output().includes("from "));
  expect(/from (?:::ffff:)?([^;]*);/.exec(server.output())?.[1]).toMatch(from);
});
