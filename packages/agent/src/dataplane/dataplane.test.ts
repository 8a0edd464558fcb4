import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeKernel } from "@calico-ts/linux/testing";
import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import { GROUP_BASE } from "@calico-ts/policy-compiler";
import { silentLogger } from "@calico-ts/runtime";
import { FakeClock, settle } from "@calico-ts/runtime/testing";
import { errorText } from "@calico-ts/std";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openProfile, workload } from "../../testing/messages.ts";
import { resolveConfig } from "../config/resolve.ts";
import { Dataplane } from "./dataplane.ts";
import { TABLE } from "./ownership.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ct-dataplane-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function world(text: Record<string, string> = {}) {
  const kernel = new FakeKernel();
  const clock = new FakeClock();
  const eth0 = kernel.links.create({ kind: "veth", name: "eth0", up: true, peer: { name: "eth0-peer", up: true } });
  kernel.addresses.add({ link: eth0?.index ?? 0, address: parseAddress("192.168.0.1"), prefixLength: 24 });
  const dataplane = new Dataplane({
    kernel,
    node: "n1",
    config: resolveConfig({ ipv6Support: "false", ...text }).config,
    clock,
    log: silentLogger,
    mtuFile: join(folder, "mtu"),
  });
  const plug = (name: string): void => {
    kernel.links.create({ kind: "veth", name, up: true, peer: { name: `${name}-peer`, up: true } });
  };
  const routes = (): string[] =>
    kernel.routes
      .list({ protocol: 80 })
      .map((route) => `${formatPrefix(route.destination)} ${kernel.links.get(route.link ?? 0)?.name ?? "-"}`);
  const chains = async (): Promise<string[]> => (await kernel.nft.listChains(TABLE)).map(({ name }) => name);
  return { chains, clock, dataplane, kernel, plug, routes };
}

describe("dataplane", () => {
  test("nothing before the gate, then rules, routes and the MTU file", async () => {
    const { chains, dataplane, plug, routes } = world();
    plug("cali1");
    dataplane.receive(openProfile);
    dataplane.receive(workload("cali1", "10.0.0.1"));
    await settle();
    expect([await chains(), routes()]).toEqual([[], []]);
    dataplane.open();
    await dataplane.whenIdle();
    expect(routes()).toEqual(["10.0.0.1/32 cali1"]);
    expect((await chains()).length).toBeGreaterThan(5);
    expect(dataplane.isProgrammed("k8s/default/cali1/eth0")).toBe(true);
    expect(readFileSync(join(folder, "mtu"), "utf8")).toBe("1500");
    await dataplane[Symbol.asyncDispose]();
  });

  test("an endpoint whose interface comes later is programmed when it comes", async () => {
    const { dataplane, plug, routes } = world();
    dataplane.receive(openProfile);
    dataplane.receive(workload("cali1", "10.0.0.1"));
    dataplane.open();
    await dataplane.whenIdle();
    expect(dataplane.isProgrammed("k8s/default/cali1/eth0")).toBe(false);
    plug("cali1");
    await settle();
    await dataplane.whenIdle();
    expect(routes()).toEqual(["10.0.0.1/32 cali1"]);
    expect(dataplane.isProgrammed("k8s/default/cali1/eth0")).toBe(true);
    await dataplane[Symbol.asyncDispose]();
  });

  test("the link's group follows its endpoint, comes with the link, and is set back when somebody else changes it", async () => {
    const { dataplane, kernel, plug } = world();
    const group = (name: string): number | undefined => kernel.links.get(name)?.group;
    const idle = async (): Promise<void> => {
      await settle();
      await dataplane.whenIdle();
    };
    plug("cali1");
    plug("eth9");
    kernel.links.set("eth9", { group: GROUP_BASE + 5 });
    plug("cali9");
    kernel.links.set("cali9", { group: GROUP_BASE + 5 });
    plug("cali8");
    kernel.links.set("cali8", { group: 8 });
    dataplane.receive(openProfile);
    dataplane.receive(workload("cali1", "10.0.0.1"));
    dataplane.receive(workload("cali2", "10.0.0.2"));
    dataplane.open();
    await idle();
    const own = group("cali1") ?? 0;
    expect(own).toBeGreaterThanOrEqual(GROUP_BASE);
    expect([group("cali9"), group("cali8"), group("eth9")], "ours only, and only of workloads").toEqual([
      0,
      8,
      GROUP_BASE + 5,
    ]);
    plug("cali2");
    await idle();
    expect(group("cali2")).toBe(own);
    expect(dataplane.linkGroups.counts).toEqual({ changes: 3, repairs: 0 });

    kernel.links.set("cali2", { group: 7 });
    await idle();
    expect(group("cali2")).toBe(own);
    expect(dataplane.linkGroups.counts).toEqual({ changes: 4, repairs: 1 });

    kernel.links.delete("cali2"); // a second sandbox of the same pod: another link of that name
    plug("cali2");
    expect(dataplane.isProgrammed("k8s/default/cali2/eth0")).toBe(false);
    await idle();
    expect(group("cali2")).toBe(own);
    expect(dataplane.isProgrammed("k8s/default/cali2/eth0")).toBe(true);

    dataplane.receive({
      kind: "workload-endpoint-remove",
      id: { orchestrator: "k8s", workload: "default/cali2", endpoint: "eth0" },
    });
    await idle();
    expect([group("cali1"), group("cali2")]).toEqual([own, 0]);
    expect(dataplane.linkGroups.counts.repairs).toBe(1);
    await dataplane[Symbol.asyncDispose]();
  });

  test("rules the kernel refuses: no route for the new pod, old ones stay, and all comes right later", async () => {
    const { clock, dataplane, kernel, plug, routes } = world();
    plug("cali1");
    plug("cali2");
    dataplane.receive(openProfile);
    dataplane.receive(workload("cali1", "10.0.0.1"));
    dataplane.open();
    await dataplane.whenIdle();

    const apply = kernel.nft.apply.bind(kernel.nft);
    kernel.nft.apply = () => Promise.reject(new Error("Device or resource busy"));
    dataplane.receive(workload("cali2", "10.0.0.2"));
    await dataplane.whenIdle();
    expect(routes()).toEqual(["10.0.0.1/32 cali1"]);
    expect(dataplane.isProgrammed("k8s/default/cali2/eth0")).toBe(false);
    expect(errorText(dataplane.failures().get("rules"))).toContain("Device or resource busy");

    kernel.nft.apply = apply;
    await clock.advance(10_000);
    await settle();
    await dataplane.whenIdle();
    expect(dataplane.failures().size).toBe(0);
    expect(routes()).toEqual(["10.0.0.1/32 cali1", "10.0.0.2/32 cali2"]);
    await dataplane[Symbol.asyncDispose]();
  });

  test("an endpoint counts as programmed when its own transaction is committed, whatever else is under way", async () => {
    const { dataplane, kernel, plug } = world();
    plug("cali1");
    plug("cali2");
    dataplane.receive(openProfile);
    dataplane.open();
    await dataplane.whenIdle();
    const apply = kernel.nft.apply.bind(kernel.nft);
    const commit = Promise.withResolvers<void>();
    kernel.nft.apply = async (commands) => {
      await commit.promise;
      await apply(commands);
    };
    dataplane.receive(workload("cali1", "10.0.0.1"));
    await settle();
    expect(dataplane.busy).toBe(true);
    // The route is there already, by CNI's hand: that is not enough.
    const link = kernel.links.get("cali1")?.index ?? 0;
    kernel.routes.add({ destination: parsePrefix("10.0.0.1/32"), link, scope: 253, protocol: 80, metric: 1024 });
    await settle();
    expect(dataplane.isProgrammed("k8s/default/cali1/eth0")).toBe(false);
    dataplane.receive(workload("cali2", "10.0.0.2")); // comes too late for this transaction
    const first: boolean[] = [];
    using _ = dataplane.afterEachPass(() =>
      first.push(["cali1", "cali2"].every((name) => dataplane.isProgrammed(`k8s/default/${name}/eth0`))),
    );
    const alone: boolean[] = [];
    using _alone = dataplane.afterEachPass(() => alone.push(dataplane.isProgrammed("k8s/default/cali1/eth0")));
    commit.resolve();
    await dataplane.whenIdle();
    expect([alone[0], first[0], first.at(-1)]).toEqual([true, false, true]);
    await dataplane[Symbol.asyncDispose]();
  });

  test("periodic refresh finds what no notification told", async () => {
    const { clock, dataplane, kernel, plug } = world({ interfaceRefreshInterval: "30" });
    const key = "net/ipv4/conf/cali1/proxy_arp";
    kernel.sysctl.set(key, "0"); // as the kernel makes it with the interface
    plug("cali1");
    dataplane.receive(openProfile);
    dataplane.receive(workload("cali1", "10.0.0.1"));
    dataplane.open();
    await dataplane.whenIdle();
    expect(kernel.sysctl.get(key)).toBe("1");
    kernel.sysctl.set(key, "0");
    await clock.advance(29_000);
    expect(kernel.sysctl.get(key)).toBe("0");
    await clock.advance(2_000);
    await settle();
    await dataplane.whenIdle();
    expect(kernel.sysctl.get(key)).toBe("1");
    await dataplane[Symbol.asyncDispose]();
  });
});
