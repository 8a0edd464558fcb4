/** Stub servers with real connections, from a namespace of their own. */
import { afterEach, expect, test } from "vitest";
import { ConnectionLog } from "../../src/cluster/stub/connection-log.ts";
import { openStub, type StubPort, type StubServer } from "../../src/cluster/stub/stub-server.ts";
import { askTcp, askUdp } from "./ask.ts";
import { Star, type StarPod } from "./star.ts";

const open: Disposable[] = [];
afterEach(() => {
  for (const each of open.splice(0).toReversed()) each[Symbol.dispose]();
});

interface Bench {
  readonly star: Star;
  readonly client: StarPod;
  readonly server: StarPod;
  readonly log: ConnectionLog;
  readonly serve: (port: number, protocol: "TCP" | "UDP") => Promise<StubServer>;
}

function bench(): Bench {
  const star = new Star();
  open.push(star);
  const client = star.pod(1);
  const server = star.pod(2);
  const log = new ConnectionLog();
  return {
    star,
    client,
    server,
    log,
    serve: async (port, protocol) => {
      const stub: StubPort = {
        netns: server.netns,
        families: [4, 6],
        pod: "shop/cart",
        node: "node-1",
        port,
        protocol,
        log,
      };
      const running = await openStub(stub);
      open.push({ [Symbol.dispose]: () => running.close() });
      return running;
    },
  };
}

const GREETING = { pod: "shop/cart", node: "node-1", port: 8080 };

test("answers calico-probe, HTTP and UDP, over IPv4 and IPv6", async () => {
  const { client, server, serve, log } = bench();
  await serve(8080, "TCP");
  await serve(8080, "UDP");
  for (const to of [server.ip, server.ip6]) {
    const target = { from: client.netns, to, port: 8080 };
    expect(JSON.parse(await askTcp(target))).toEqual(GREETING);
    const http = await askTcp(target, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(http).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(JSON.parse(http.split("\r\n\r\n")[1] ?? "")).toEqual(GREETING);
    expect(JSON.parse(await askUdp(target))).toEqual(GREETING);
  }
  const lines = log.lines().map((line) => line.text);
  expect(lines).toHaveLength(6);
  expect(lines[0]).toMatch(/^10\.77\.0\.1:\d+ -> :8080 tcp$/);
  expect(lines[1]).toMatch(/GET \/healthz HTTP\/1\.1$/);
});

test("probes of the kubelet leave no line, and a closed stub refuses", async () => {
  const { client, server, serve, log } = bench();
  const stub = await serve(80, "TCP");
  const target = { from: client.netns, to: server.ip, port: 80 };
  const probe = "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.34\r\n\r\n";
  expect(await askTcp(target, probe)).toContain("200 OK");
  expect(log.lines()).toEqual([]);
  stub.close();
  expect(await askTcp(target)).toBe("ECONNREFUSED");
});

test("a port taken twice is an error with its reason", async () => {
  const { serve } = bench();
  await serve(9000, "TCP");
  await expect(serve(9000, "TCP")).rejects.toMatchObject({ code: "KERNEL", detail: { errnoName: "EADDRINUSE" } });
});

test("garbage and endless lines are survived", async () => {
  const { client, server, serve } = bench();
  await serve(80, "TCP");
  const target = { from: client.netns, to: server.ip, port: 80 };
  expect(await askTcp(target, "x".repeat(20_000))).not.toContain("pod");
  expect(JSON.parse(await askTcp(target))).toMatchObject({ pod: "shop/cart" });
});
