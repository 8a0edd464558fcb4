import { expect, test } from "vitest";
import { probeCapabilities } from "./capabilities.ts";
import { createNamespace, listNamespaces } from "./namespace.ts";
import { scratchNamespace } from "./testing/scratch.ts";

test("every feature has an answer and a reason, and the answers are what `ip` finds", async () => {
  const capabilities = await probeCapabilities();
  expect(listNamespaces().filter((name) => name.includes(String(process.pid)))).toEqual([]);
  const names = capabilities.list.map((capability) => capability.name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, detail } of capabilities.list) expect([name, detail]).not.toEqual([name, ""]);
  for (const name of [
    "root",
    "cap:net_admin",
    "namespaces",
    "link:veth",
    "link:bridge",
    "link:vxlan",
    "nft:inet",
    "nft:verdict-map",
    "nft:masquerade",
    "conntrack",
    "sysctl",
  ]) {
    expect([name, capabilities.has(name)]).toEqual([name, true]);
  }
  using scratch = scratchNamespace("cap");
  const ipCan = (type: string, ...more: string[]): boolean => {
    try {
      scratch.run("ip", "link", "add", `x-${type}`, "type", type, ...more);
      return true;
    } catch {
      return false;
    }
  };
  expect(capabilities.has("link:dummy")).toBe(ipCan("dummy"));
  expect(capabilities.has("link:wireguard")).toBe(ipCan("wireguard"));
  expect(capabilities.has("link:ifb")).toBe(ipCan("ifb"));
  expect(capabilities.has("link:ipip")).toBe(ipCan("ipip", "local", "127.0.0.1"));
  const nftCan = (command: string): boolean => {
    try {
      scratch.run("nft", command);
      return true;
    } catch {
      return false;
    }
  };
  expect(capabilities.has("nft:flowtable")).toBe(
    nftCan("add table inet t; add flowtable inet t f { hook ingress priority 0; devices = { lo }; }"),
  );
  expect(capabilities.has("tc:netem")).toBe(
    ((): boolean => {
      try {
        scratch.run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms");
        return true;
      } catch {
        return false;
      }
    })(),
  );
});

test("a probe that was killed leaves nothing that the next one does not sweep", async () => {
  const dead = "calico-probe-4194305"; // beyond the largest process id
  createNamespace(dead);
  await probeCapabilities();
  expect(listNamespaces()).not.toContain(dead);
  expect(listNamespaces()).not.toContain(`calico-probe-${process.pid}`);
});
