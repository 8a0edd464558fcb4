/** CNI against the running agent, over its socket: address, interface, routes and policy in one answer, and all of it gone again. */
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { intercept, type MemoryDatastore, openMemory } from "@calico-ts/datastore";
import { openKernel } from "@calico-ts/linux";
import { createLogger, systemClock } from "@calico-ts/runtime";
import { openSyncer } from "@calico-ts/sync";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runAgent } from "../src/agent.ts";
import { podInterfaceName } from "../src/cni/pod-link.ts";
import { openCniService } from "../src/cni/open-cni-service.ts";
import { SYNC_KINDS } from "../src/intake/kinds.ts";
import { eventually, Lab } from "../testing/lab.ts";
import * as world from "../testing/world.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

interface Answer {
  readonly ok: boolean;
  readonly result?: { readonly ips: readonly { readonly address: string }[] };
  readonly error?: { readonly code: number; readonly msg: string };
}

function ask(command: string, pod: string, netns: string): Promise<Answer> {
  const request = {
    version: 1,
    command,
    program: "calico",
    containerId: `c-${pod}`,
    netns,
    ifName: "eth0",
    args: { K8S_POD_NAMESPACE: "default", K8S_POD_NAME: pod },
    path: "/opt/cni/bin",
    config: { cniVersion: "1.0.0", name: "k8s-pod-network", type: "calico", ipam: { type: "calico-ipam" } },
  };
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(join(lab.folder, "var/run/calico/cni.sock"), () =>
      socket.write(`${JSON.stringify(request)}\n`),
    );
    socket.on("data", (chunk) => (text += chunk.toString()));
    socket.on("end", () => resolve(JSON.parse(text) as Answer));
    socket.on("error", reject);
  });
}

function startAgent(n1: string, client: MemoryDatastore): AsyncDisposable & { readonly ready: () => boolean } {
  const kernel = openKernel({ netns: lab.path(n1) });
  const stop = new AbortController();
  const lines: string[] = [];
  const log = createLogger({ component: "felix", stream: { write: (line) => lines.push(line) }, level: "Info" });
  const ended = runAgent(
    {
      node: "n1",
      hostRoot: lab.folder,
      localConfig: { programClusterRoutes: "Enabled", ipv6Support: "false" },
      kernel,
      clock: systemClock,
      log,
      openSyncer: (signal) => openSyncer({ client, kinds: SYNC_KINDS, signal }),
      openCni: (needs) =>
        openCniService({ ...needs, client, node: "n1", hostRoot: lab.folder, clock: systemClock, log }),
    },
    stop.signal,
  );
  return {
    ready: () => lines.some((line) => line.includes("dataplane.in_force")),
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended;
      kernel[Symbol.dispose]();
    },
  };
}

test("ADD answers with policy in place; DEL takes everything back; the next pod is not mistaken for the last", async () => {
  const [n1 = ""] = lab.nodes(1);
  const client = openMemory();
  await world.put(client, world.node(1), world.pool(), world.namespace("default"));
  await world.put(client, world.allowOnly("web", "web", { app: "friend" }));
  await using agent = startAgent(n1, client);
  await eventually("the agent is ready", () => agent.ready());

  const addressOf = new Map<string, string>();
  const spaces = new Map<string, string>();
  for (const name of ["web", "friend", "other"]) {
    await world.put(client, world.pod({ name, node: "n1" }));
    const space = lab.namespace(name);
    spaces.set(name, space);
    const answer = await ask("ADD", name, lab.path(space));
    expect(answer).toMatchObject({ ok: true });
    addressOf.set(name, answer.result?.ips[0]?.address.replace("/32", "") ?? "");
  }
  const web = addressOf.get("web") ?? "";
  // Straight after the answer, no waiting: the policy is in force, both ways.
  expect(lab.pings(spaces.get("friend") ?? "", web)).toBe(true);
  expect(lab.pings(spaces.get("other") ?? "", web)).toBe(false);
  expect(await ask("CHECK", "web", lab.path(spaces.get("web") ?? ""))).toMatchObject({ ok: true });
  const recorded = await client.get("Pod", { namespace: "default", name: "web" });
  expect(recorded.metadata.annotations?.["cni.projectcalico.org/podIPs"]).toBe(`${web}/32`);

  expect(await ask("DEL", "web", lab.path(spaces.get("web") ?? ""))).toMatchObject({ ok: true });
  expect(await ask("DEL", "web", "")).toMatchObject({ ok: true });
  await eventually("the route is gone", () => !lab.ip(n1, "route").includes(`${web} dev`));
  expect(lab.ip(n1, "link")).not.toContain(podInterfaceName("default", "web"));

  const again = lab.namespace("web-again");
  const answer = await ask("ADD", "web", lab.path(again));
  expect(answer).toMatchObject({ ok: true });
  const next = answer.result?.ips[0]?.address.replace("/32", "") ?? "";
  expect(lab.pings(spaces.get("friend") ?? "", next)).toBe(true);
  expect(lab.pings(spaces.get("other") ?? "", next)).toBe(false);
});

test("an ADD that comes while the agent is starting waits for it", async () => {
  const [n1 = ""] = lab.nodes(1);
  const client = openMemory();
  await world.put(
    client,
    world.node(1),
    world.pool(),
    world.namespace("default"),
    world.pod({ name: "early", node: "n1" }),
  );
  const release = Promise.withResolvers<void>();
  const slow = intercept(client, {
    before: async ({ kind, verb }) => {
      if (verb === "list" && kind === "Tier") await release.promise;
    },
  }) as MemoryDatastore;
  await using agent = startAgent(n1, slow);
  await eventually("the socket", () => existsSync(join(lab.folder, "var/run/calico/cni.sock")));
  const space = lab.namespace("early");
  const answer = ask("ADD", "early", lab.path(space));
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(agent.ready()).toBe(false);
  expect(lab.ip(space, "link")).not.toContain("eth0");
  release.resolve();
  expect(await answer).toMatchObject({ ok: true });
});

test("a pod the API server does not know", async () => {
  const [n1 = ""] = lab.nodes(1);
  const client = openMemory();
  await world.put(client, world.node(1), world.pool(), world.namespace("default"));
  await using agent = startAgent(n1, client);
  await eventually("the agent is ready", () => agent.ready());
  const space = lab.namespace("nobody");
  const answer = await ask("ADD", "nobody", lab.path(space));
  expect(answer).toMatchObject({ ok: false, error: { msg: expect.stringContaining("nobody") as string } });
  expect(lab.ip(space, "link")).not.toContain("eth0");
  expect((await client.list("IPAMHandle")).items).toEqual([]);
});
