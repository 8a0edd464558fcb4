import { parseSelector } from "@calico-ts/selector";
import { expect, test } from "vitest";
import { PodPeers } from "./pod-peers.ts";

const labels = (values: Readonly<Record<string, string>>): ReadonlyMap<string, string> =>
  new Map(Object.entries(values));
const facts = (workloads: string, nodes = "", node?: string) => ({
  nodes: parseSelector(nodes),
  workloads: parseSelector(workloads),
  ...(node === undefined ? {} : { node }),
});

test("pods that a BGPPeer of this node selects, by labels of their own and of their profiles; the first by name", () => {
  const changed: string[] = [];
  const peers = new PodPeers("n1", (endpoint) => changed.push(endpoint));
  peers.setEndpoint("web", { labels: labels({ app: "web" }), parents: ["kns.shop"] });
  peers.setEndpoint("db", { labels: labels({ app: "db" }), parents: ["kns.bank"] });
  expect([peers.peerOf("web"), peers.peerOf("nobody")]).toEqual([undefined, undefined]);

  peers.setPeer("z", facts("app == 'web'"));
  peers.setPeer("a", facts("pcns.team == 'a'", "rack == '1'"));
  peers.setPeer("elsewhere", facts("all()", "", "n2"));
  expect(peers.peerOf("web")).toBe("z");
  peers.setProfileLabels("kns.shop", labels({ "pcns.team": "a" }));
  expect(peers.peerOf("web")).toBe("z"); // the node is not in rack 1
  peers.setNodeLabels(labels({ rack: "1" }));
  expect([peers.peerOf("web"), peers.peerOf("db")]).toEqual(["a", undefined]);
  expect(new Set(changed)).toEqual(new Set(["web"]));

  peers.setPeer("elsewhere", facts("all()", "", "n1"));
  expect(peers.peerOf("db")).toBe("elsewhere");
  peers.setProfileLabels("kns.shop", undefined);
  peers.setPeer("z", undefined);
  expect(peers.peerOf("web")).toBe("elsewhere");
  peers.setNodeLabels(labels({}));
  peers.setPeer("elsewhere", undefined);
  peers.setEndpoint("web", undefined);
  expect(["web", "db"].map((id) => peers.peerOf(id))).toEqual([undefined, undefined]);
});
