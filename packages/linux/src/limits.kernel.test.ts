/** What happens at the limits: no privilege to enlarge buffers, notifications that come faster than they are read. */
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { parsePrefix } from "@calico-ts/net";
import { expect, test } from "vitest";
import type { KernelEvent } from "./kernel.ts";
import { scratchNamespace } from "./testing/scratch.ts";

/** Runs a program as root of a user namespace only: the kernel then refuses SO_SNDBUFFORCE. */
function inUserNamespace(program: string): { readonly stdout: string; readonly stderr: string } {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const source = `
    import { openKernel } from ${url("open-kernel.ts")};
    const kernel = openKernel();
    const table = { family: "inet", name: "t" };
    const set = { name: "s", keyTypes: ["ipv4_addr"] };
    const fill = (count) => Array.from({ length: count }, (_, n) => ({ key: Uint8Array.of(n >> 24, n >> 16, n >> 8, n) }));
    ${program}
  `;
  const args = ["-Urn", process.execPath, "--conditions=calico-src", "--input-type=module", "-e", source];
  return spawnSync("unshare", args, { encoding: "utf8", cwd: import.meta.dirname });
}

test("as root of a user namespace only: what does not fit the send buffer says so, where the kernel limits it", () => {
  const { stdout, stderr } = inUserNamespace(`
    await kernel.nft.apply([{ do: "add-table", table }, { do: "add-set", table, set }, { do: "add-elements", table, set, elements: fill(5000) }]);
    console.log((await kernel.nft.listElements(table, set)).length);
    try {
      await kernel.nft.apply([{ do: "add-elements", table, set, elements: fill(200000) }]);
    } catch (error) {
      console.log(error.code, error.detail.errnoName, error.message.includes("CAP_NET_ADMIN"));
    }
    console.log((await kernel.nft.listElements(table, set)).length);
  `);
  expect(stderr).toBe("");
  // Newer kernels let the namespace's own root enlarge the buffer.
  expect(["5000\n200000\n", "5000\nKERNEL EMSGSIZE true\n5000\n"]).toContain(stdout);
});

test("without any privilege, the error says which one is missing", () => {
  const { stdout } = inUserNamespace(`
    const { startProgram } = await import(${JSON.stringify(new URL("process.ts", import.meta.url).href)});
    const child = startProgram("setpriv", ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--", process.execPath, "--conditions=calico-src", "--input-type=module", "-e",
      "import { openKernel } from '" + ${JSON.stringify(new URL("open-kernel.ts", import.meta.url).href)} + "'; try { openKernel().links.create({ kind: 'bridge', name: 'b' }); } catch (error) { console.log(error.message); }"], { stdio: "inherit" });
    await new Promise((resolve) => child.on("exit", resolve));
  `);
  expect(stdout).toContain('create bridge link "b": the kernel answered EPERM');
  expect(stdout).toContain("CAP_NET_ADMIN");
});

test("notifications nobody read in time become one overrun, and the watch goes on", async () => {
  using scratch = scratchNamespace("flood");
  const { kernel } = scratch;
  const events: KernelEvent[] = [];
  using _ = kernel.watch(["route"], (event) => events.push(event));
  const ops = Array.from({ length: 60_000 }, (_, n) => ({
    do: "replace" as const,
    value: {
      destination: parsePrefix(`10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}/32`),
      type: "blackhole" as const,
    },
  }));
  // Synchronous: the event loop, and with it the watch, has no turn until all are in.
  kernel.routes.many(ops);
  for (let tries = 0; tries < 200 && !events.some((event) => event.kind === "overrun"); tries++) await sleep(20);
  expect(events.some((event) => event.kind === "overrun")).toBe(true);
  let seen = -1;
  while (seen !== events.length) {
    seen = events.length;
    await sleep(200);
  }
  kernel.routes.replace({ destination: parsePrefix("10.200.0.0/24"), type: "blackhole" });
  for (let tries = 0; tries < 100 && events.length === seen; tries++) await sleep(20);
  expect(events.at(-1)).toMatchObject({
    kind: "route",
    gone: false,
    route: { destination: parsePrefix("10.200.0.0/24") },
  });
  expect(kernel.routes.list({ family: 4, protocol: 4 })).toHaveLength(60_001);
});
