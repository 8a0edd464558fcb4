import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { silentLogger } from "@calico-ts/runtime";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KeyedQueue } from "./keyed-queue.ts";
import type { CniRequest } from "./request.ts";
import { openCniServer } from "./server.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ct-cni-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const requestLine = (command: "ADD" | "DEL", pod: string): string =>
  `${JSON.stringify({
    version: 1,
    program: "calico",
    command,
    containerId: `c-${pod}`,
    netns: `/run/netns/${pod}`,
    ifName: "eth0",
    args: { K8S_POD_NAMESPACE: "shop", K8S_POD_NAME: pod },
    path: "/opt/cni/bin",
    config: { cniVersion: "1.0.0", name: "k8s-pod-network", type: "calico", ipam: { type: "calico-ipam" } },
  })}\n`;

// An agent reads the datastore after its socket is open, and an ADD waits for that: an open that waited for the ADD waited for itself.
test("a DEL from while no agent ran is not kept waiting by an ADD of the same pod", async () => {
  const deferred = join(folder, "cni-deferred");
  mkdirSync(deferred);
  for (const pod of ["first", "second"]) writeFileSync(join(deferred, `${pod}.json`), requestLine("DEL", pod));
  const path = join(folder, "cni.sock");
  const opened = Promise.withResolvers<void>();
  const added = Promise.withResolvers<void>();
  const done: string[] = [];
  const queue = new KeyedQueue();
  let answer: Promise<string> | undefined;
  const work = async ({ command, pod }: CniRequest): Promise<undefined> => {
    if (command === "ADD") {
      await opened.promise; // the agent is ready
    } else if (answer === undefined) {
      // Both DELs stand in line or neither does: whichever comes first, an ADD of the second arrives now.
      const socket = connect(path);
      socket.write(requestLine("ADD", "second"));
      answer = text(socket);
      await added.promise;
    }
    done.push(`${command} ${pod?.name ?? ""}`);
  };
  const service = {
    handle: (request: CniRequest) => {
      const result = queue.run(request.pod?.name ?? "", () => work(request));
      if (request.command === "ADD") added.resolve();
      return result;
    },
  };
  await using _server = await openCniServer({ path, service, log: silentLogger });
  opened.resolve();
  expect(JSON.parse((await answer) ?? "")).toEqual({ ok: true });
  expect(done).toHaveLength(3);
  expect(done.at(-1)).toBe("ADD second");
  expect(existsSync(path) && readdirSync(deferred)).toEqual([]);
});

test("a request without an end is refused, and told why", async () => {
  const path = join(folder, "cni.sock");
  const service = { handle: () => Promise.reject(new Error("it was taken")) };
  await using _server = await openCniServer({ path, service, log: silentLogger });
  const socket = connect(path);
  socket.write("x".repeat(4 * 1024 * 1024 + 1));
  expect(JSON.parse(await text(socket))).toEqual({
    ok: false,
    error: { code: 7, msg: "the network configuration is longer than 4 MiB" },
  });
});
