import { formatAddress } from "@calico-ts/net";
import { expect, test } from "vitest";
import type { PodView } from "../cluster/cluster-port.ts";
import { flowsBetween } from "./probe-pods.ts";

const pod = (node: string, ...ips: string[]): PodView => ({
  namespace: "kill-each",
  name: node,
  uid: node,
  labels: {},
  node,
  netns: `/run/netns/${node}`,
  hostNetwork: false,
  ips,
  phase: "Running",
  ready: true,
  terminating: false,
  ports: [],
  owners: [],
  stub: true,
});

test("one flow for each pair of pods and each family that both have", () => {
  const flows = flowsBetween([
    pod("node-10", "10.0.0.10"),
    pod("node-1", "10.0.0.1", "fd00::1"),
    pod("node-2", "10.0.0.2", "fd00::2"),
  ]);
  expect(flows.map(({ name, netns, to }) => `${name} from ${netns} to ${formatAddress(to)}`)).toEqual([
    "node-1 ↔ node-2 (IPv4) from /run/netns/node-1 to 10.0.0.2",
    "node-1 ↔ node-2 (IPv6) from /run/netns/node-1 to fd00::2",
    "node-1 ↔ node-10 (IPv4) from /run/netns/node-1 to 10.0.0.10",
    "node-2 ↔ node-10 (IPv4) from /run/netns/node-2 to 10.0.0.10",
  ]);
});
