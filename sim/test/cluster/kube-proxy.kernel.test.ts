/** The kube-proxy stand-in with real packets: pods around one node, Services by hand, `nft` as witness. */
import { afterEach, expect, test } from "vitest";
import { silentLogger } from "@calico-ts/runtime";
import type { EndpointSlice, Service } from "../../src/cluster/kube/objects.ts";
import { KubeProxy } from "../../src/cluster/proxy/kube-proxy.ts";
import { ConnectionLog } from "../../src/cluster/stub/connection-log.ts";
import { openStub } from "../../src/cluster/stub/stub-server.ts";
import { askTcp, askUdp, podIn } from "./ask.ts";
import { FakeInformers } from "./fake-informers.ts";
import { run, Star, type StarPod } from "./star.ts";

const stacks: AsyncDisposableStack[] = [];
afterEach(async () => {
  for (const stack of stacks.splice(0).toReversed()) await stack.disposeAsync();
});

interface Bench {
  readonly star: Star;
  readonly informers: FakeInformers;
  readonly client: StarPod;
  readonly backends: readonly StarPod[];
  readonly service: (spec: Partial<Service["spec"]>) => void;
  readonly slice: (backends: readonly Endpoint[], protocol?: "TCP" | "UDP") => void;
  readonly settled: () => Promise<void>;
}

interface Endpoint {
  readonly pod: StarPod;
  readonly node?: string;
  readonly ready?: boolean;
}

const VIP = "10.96.0.10";

async function bench(): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  stacks.push(stack);
  const star = stack.use(new Star());
  const client = star.pod(1);
  const backends = [star.pod(2), star.pod(3)];
  for (const [at, pod] of backends.entries()) {
    for (const protocol of ["TCP", "UDP"] as const) {
      const stub = await openStub({
        netns: pod.netns,
        families: [4, 6],
        pod: `b${at}`,
        node: "n",
        port: 8080,
        protocol,
        log: new ConnectionLog(),
      });
      stack.defer(() => stub.close());
    }
  }
  const informers = new FakeInformers();
  const proxy = new KubeProxy({ informers, log: silentLogger }, { name: "node-1", netns: star.node.netns });
  stack.defer(() => proxy.stop());
  informers.sync("Service", "EndpointSlice");
  let protocolNow: "TCP" | "UDP" = "TCP";
  return {
    star,
    informers,
    client,
    backends,
    service: (spec) => {
      protocolNow = spec.ports?.[0]?.protocol === "UDP" ? "UDP" : "TCP";
      informers.put("Service", {
        metadata: { name: "cart", namespace: "shop" },
        spec: {
          clusterIP: VIP,
          clusterIPs: [VIP],
          ports: [{ port: 80, targetPort: 8080, protocol: protocolNow }],
          ...spec,
        },
      });
    },
    slice: (endpoints, protocol) => {
      informers.put("EndpointSlice", sliceOf("IPv4", endpoints, protocol ?? protocolNow));
    },
    settled: async () => {
      // Links that were made a moment ago take a moment to carry.
      await new Promise((resolve) => setTimeout(resolve, 150));
      while (!proxy.settled) await new Promise((resolve) => setTimeout(resolve, 5));
    },
  };
}

const sliceOf = (
  addressType: "IPv4" | "IPv6",
  endpoints: readonly Endpoint[],
  protocol: "TCP" | "UDP",
): EndpointSlice => ({
  metadata: { name: `cart-${addressType}`, namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
  addressType,
  ports: [{ name: "", port: 8080, protocol }],
  endpoints: endpoints.map(({ pod, node = "node-1", ready = true }) => ({
    addresses: [addressType === "IPv4" ? pod.ip : pod.ip6],
    conditions: { ready, serving: ready, terminating: false },
    nodeName: node,
  })),
});

async function whoAnswers(times: number, ask: () => Promise<string>): Promise<ReadonlySet<string>> {
  const seen = new Set<string>();
  for (let at = 0; at < times; at++) seen.add(podIn(await ask()));
  return seen;
}

test("a cluster address reaches every ready backend and no other", async () => {
  const { service, slice, backends, client, settled } = await bench();
  service({});
  slice(backends.map((pod) => ({ pod })));
  await settled();
  const ask = (): Promise<string> => askTcp({ from: client.netns, to: VIP, port: 80 });
  expect(await whoAnswers(30, ask)).toEqual(new Set(["b0", "b1"]));
  slice([{ pod: backends[0] }, { pod: backends[1], ready: false }]);
  await settled();
  expect(await whoAnswers(10, ask)).toEqual(new Set(["b0"]));
});

test("the node itself reaches it, and a backend reaches itself through its service", async () => {
  const { service, slice, backends, star, settled } = await bench();
  service({});
  slice([{ pod: backends[0] }]);
  await settled();
  expect(podIn(await askTcp({ from: star.node.netns, to: VIP, port: 80 }))).toBe("b0");
  // Without masquerading the answer would come from the pod's own address and be dropped.
  expect(podIn(await askTcp({ from: backends[0].netns, to: VIP, port: 80 }))).toBe("b0");
});

test("without endpoints connections are refused at once, with them no longer", async () => {
  const { service, slice, backends, client, star, settled } = await bench();
  service({});
  await settled();
  const target = { from: client.netns, to: VIP, port: 80 };
  expect(await askTcp(target)).toBe("ECONNREFUSED");
  expect(await askTcp({ ...target, from: star.node.netns })).toBe("ECONNREFUSED");
  slice([{ pod: backends[0] }]);
  await settled();
  expect(podIn(await askTcp(target))).toBe("b0");
});

test("a deleted service leaves nothing in the table", async () => {
  const { service, slice, backends, informers, star, settled } = await bench();
  await settled();
  const empty = run(star.node.name, "nft", "list", "table", "ip", "kube-proxy-sim");
  service({ type: "NodePort", ports: [{ port: 80, targetPort: 8080, nodePort: 30_080 }] });
  slice(backends.map((pod) => ({ pod })));
  await settled();
  expect(run(star.node.name, "nft", "list", "table", "ip", "kube-proxy-sim")).toContain("10.77.0.2");
  informers.remove("Service", "shop/cart");
  informers.remove("EndpointSlice", "shop/cart-IPv4");
  await settled();
  expect(run(star.node.name, "nft", "list", "table", "ip", "kube-proxy-sim")).toBe(empty);
});

test("node ports are masqueraded, and with the Local policy they are not", async () => {
  const { service, slice, backends, client, star, settled } = await bench();
  const nodePort = { type: "NodePort", ports: [{ port: 80, targetPort: 8080, nodePort: 30_080 }] };
  service(nodePort);
  slice([{ pod: backends[0] }]);
  await settled();
  const target = { from: client.netns, to: star.node.ip, port: 30_080 };
  expect(podIn(await askTcp(target))).toBe("b0");
  service({ ...nodePort, externalTrafficPolicy: "Local" });
  slice([{ pod: backends[0], node: "elsewhere" }]);
  await settled();
  expect(await askTcp(target)).toBe("timeout");
  slice([{ pod: backends[0], node: "elsewhere" }, { pod: backends[1] }]);
  await settled();
  expect(await whoAnswers(8, () => askTcp(target))).toEqual(new Set(["b1"]));
});

test("ClientIP affinity keeps a client with one backend", async () => {
  const { service, slice, backends, client, settled } = await bench();
  service({ sessionAffinity: "ClientIP" });
  slice(backends.map((pod) => ({ pod })));
  await settled();
  expect((await whoAnswers(15, () => askTcp({ from: client.netns, to: VIP, port: 80 }))).size).toBe(1);
});

test("a UDP flow moves when its backend goes", async () => {
  const { service, slice, backends, client, settled } = await bench();
  service({ ports: [{ port: 53, targetPort: 8080, protocol: "UDP" }] });
  slice([{ pod: backends[0] }]);
  await settled();
  const ask = (): Promise<string> => askUdp({ from: client.netns, to: VIP, port: 53 }, 40_000);
  expect(podIn(await ask())).toBe("b0");
  slice([{ pod: backends[1] }]);
  await settled();
  // The same source port is the same flow: without clean-up the connection tracker would still send it to b0.
  expect(podIn(await ask())).toBe("b1");
});

test("IPv6 services get a table of their own", async () => {
  const { service, backends, client, informers, settled } = await bench();
  service({ clusterIP: "fd96::10", clusterIPs: ["fd96::10"], ipFamilies: ["IPv6"] });
  informers.put("EndpointSlice", sliceOf("IPv6", [{ pod: backends[1] }], "TCP"));
  await settled();
  expect(podIn(await askTcp({ from: client.netns, to: "fd96::10", port: 80 }))).toBe("b1");
});

test("a table somebody broke is built anew", async () => {
  const { service, slice, backends, client, star, settled } = await bench();
  service({});
  slice([{ pod: backends[0] }]);
  await settled();
  run(star.node.name, "nft", "delete", "table", "ip", "kube-proxy-sim");
  slice([{ pod: backends[1] }]);
  await new Promise((resolve) => setTimeout(resolve, 1_400));
  expect(podIn(await askTcp({ from: client.netns, to: VIP, port: 80 }))).toBe("b1");
});
