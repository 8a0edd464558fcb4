import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { createNamespace, deleteNamespace, listenTcp, bindUdp, namespacePath } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatGreeting } from "../stub-protocol.ts";
import { linuxProbeSockets } from "./linux-sockets.ts";
import { matrixPods, matrixRequests } from "./matrix.ts";
import type { ProbeProtocol } from "./probe-request.ts";
import { createProber } from "./prober.ts";
import type { ProbePod, ProbeView } from "./targets.ts";

// Two pods (namespaces joined by a veth), stubs in the second, and rules there that drop or refuse.
const prefix = `ct-${process.pid}`;
const [left, right] = [`${prefix}-left`, `${prefix}-right`];
const ip = (...words: string[]) => execFileSync("ip", words);
const stack = new DisposableStack();

function pod(name: string, netns: string, address: string, ports: readonly number[]): ProbePod {
  return {
    namespace: "t",
    name,
    netns: namespacePath(netns),
    hostNetwork: false,
    ips: [address],
    phase: "Running",
    ready: true,
    terminating: false,
    ports: ports.map((port) => ({ port, protocol: port === 53 ? "UDP" : "TCP" })),
  };
}
const pods = [pod("left", left, "10.9.0.1", []), pod("right", right, "10.9.0.2", [80, 53, 81])];
const view: ProbeView = {
  pods: () => pods,
  services: () => [{ namespace: "t", name: "headless", clusterIPs: ["None"], ports: [] }],
  findPod: (namespace, name) => pods.find((pod) => pod.namespace === namespace && pod.name === name),
};
const prober = createProber({ view, sockets: linuxProbeSockets, parallelism: 512 });

async function ask(protocol: ProbeProtocol, port: number, to = "t/right") {
  const [result] = await prober.probe([{ from: "t/left", to, port, protocol }]);
  return result;
}

beforeAll(() => {
  for (const name of [left, right]) {
    createNamespace(name);
    stack.defer(() => deleteNamespace(name));
  }
  ip("-n", left, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", right);
  ip("-n", left, "addr", "add", "10.9.0.1/24", "dev", "eth0");
  ip("-n", right, "addr", "add", "10.9.0.2/24", "dev", "eth0");
  for (const name of [left, right]) ip("-n", name, "link", "set", "eth0", "up");
  const rules =
    "add table t; add chain t in { type filter hook input priority 0; }; add rule t in tcp dport 82 drop; add rule t in udp dport 54 drop; add rule t in ip daddr 10.9.0.2 icmp type echo-request limit rate over 1000/second drop";
  execFileSync("ip", ["netns", "exec", right, "nft", rules]);
  const address = parseAddress("10.9.0.2");
  const stub = (port: number, who: string) => {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.on("data", () => socket.end(`${who}\n`));
    });
    server.listen({ fd: listenTcp({ netns: namespacePath(right), address, port }) });
    stack.defer(() => server.close());
  };
  stub(80, formatGreeting({ pod: "t/right", node: "n", port: 80 }));
  stub(81, formatGreeting({ pod: "t/somebody", node: "n", port: 81 }));
  stub(82, "never reached");
  stub(84, "SSH-2.0-something");
  const silent = createServer((socket) => socket.on("error", () => undefined));
  silent.listen({ fd: listenTcp({ netns: namespacePath(right), address, port: 85 }) });
  stack.defer(() => silent.close());
  const udp = createSocket("udp4");
  udp.on("message", (_, from) =>
    udp.send(formatGreeting({ pod: "t/right", node: "n", port: 53 }), from.port, from.address),
  );
  udp.bind({ fd: bindUdp({ netns: namespacePath(right), address, port: 53 }) });
  stack.defer(() => udp.close());
});
afterAll(() => stack.dispose());

describe("a TCP probe", () => {
  test("that is answered", async () => {
    expect(await ask("tcp", 80)).toMatchObject({
      from: "t/left",
      to: "t/right",
      port: 80,
      protocol: "tcp",
      verdict: "allowed",
      detail: "answered by t/right on n",
    });
    expect((await ask("tcp", 80))?.latencyMs).toBeGreaterThan(0);
  });
  test("that is dropped", async () => {
    const result = await ask("tcp", 82);
    expect(result).toMatchObject({ verdict: "denied", detail: expect.stringContaining("dropped") });
    expect(result?.latencyMs).toBeGreaterThan(1000); // the kernel had its second try
  });
  test("that is refused is no denial", async () => {
    expect(await ask("tcp", 83)).toMatchObject({ verdict: "error", detail: expect.stringContaining("refused") });
  });
  test("answered by another pod than the one meant", async () => {
    expect(await ask("tcp", 81)).toMatchObject({ verdict: "error", detail: "t/somebody answered instead of t/right" });
    expect(await ask("tcp", 81, "10.9.0.2")).toMatchObject({ verdict: "allowed" });
  });
  test("answered by no stub", async () => {
    expect(await ask("tcp", 84)).toMatchObject({ verdict: "allowed", detail: expect.stringContaining("no stub") });
    expect(await ask("tcp", 85)).toMatchObject({ verdict: "allowed", detail: expect.stringContaining("says nothing") });
  });
  test("to where no route leads", async () => {
    expect(await ask("tcp", 80, "192.0.2.1")).toMatchObject({
      verdict: "error",
      detail: expect.stringContaining("no route"),
    });
  });
});

describe("other protocols", () => {
  test("UDP answered, dropped, refused", async () => {
    expect(await ask("udp", 53)).toMatchObject({ verdict: "allowed", detail: "answered by t/right on n" });
    expect(await ask("udp", 54)).toMatchObject({ verdict: "denied" });
    expect(await ask("udp", 55)).toMatchObject({ verdict: "error", detail: expect.stringContaining("refused") });
  });
  test("ICMP", async () => {
    expect(await ask("icmp", 0)).toMatchObject({ verdict: "allowed", detail: "echo reply" });
    expect(await ask("icmp", 0, "10.9.0.77")).toMatchObject({ verdict: expect.stringMatching(/denied|error/) });
  });
});

test("what cannot be asked is an error with a reason", async () => {
  const details = await Promise.all([
    ask("tcp", 80, "t/nobody"),
    ask("tcp", 0),
    ask("tcp", 80, "svc:t/nothing"),
    ask("tcp", 80, "svc:t/headless"),
    ask("tcp", 80, "a/b/c"),
  ]);
  expect(details.map((result) => result?.verdict)).toEqual(Array.from({ length: 5 }, () => "error"));
  expect(details.map((result) => result?.detail).join("\n")).toMatch(
    /no pod or workload t\/nobody.*\n.*--port.*\n.*no service t\/nothing\n.*headless.*\n.*NAMESPACE\/POD/,
  );
});

test("the matrix asks every port of every other pod, results in order", async () => {
  const requests = matrixRequests(matrixPods(view, { namespaces: [] }));
  expect(requests.map(({ from, to, port, protocol }) => `${from} ${to} ${port} ${protocol}`)).toEqual([
    "t/left t/right 80 tcp",
    "t/left t/right 53 udp",
    "t/left t/right 81 tcp",
  ]);
  expect((await prober.probe(requests)).map(({ verdict }) => verdict)).toEqual(["allowed", "allowed", "error"]);
  expect(() => matrixPods(view, { namespaces: ["nope"] })).toThrow(
    /--namespace nope: no pods there; there are pods in: t/,
  );
});

test("two thousand probes, half of them dropped, wait side by side", async () => {
  const requests = Array.from({ length: 2000 }, (_, index) => ({
    from: "t/left",
    to: "t/right",
    port: index % 2 === 0 ? 80 : 82,
    protocol: "tcp" as const,
  }));
  const startedAt = performance.now();
  const many = createProber({ view, sockets: linuxProbeSockets, parallelism: 2000 });
  const results = await many.probe(requests);
  const elapsedMs = performance.now() - startedAt;
  expect(results.filter(({ verdict }) => verdict === "allowed")).toHaveLength(1000);
  expect(results.filter(({ verdict }) => verdict === "denied")).toHaveLength(1000);
  expect(elapsedMs).toBeLessThan(60_000); // one after the other: twenty minutes
});
