import { parseAddress } from "@calico-ts/net";
import { log, type NflogPacket } from "@calico-ts/netlink";
import { expect, test } from "vitest";
import { createNamespace, deleteNamespace, namespacePath, openKernel, ping } from "./index.ts";

const NAMESPACE = `ct-${process.pid}-nflog`;
const TABLE = { family: "inet", name: "t" } as const;

test("packets of a group come with prefix, hook and headers; a group has one listener", async () => {
  createNamespace(NAMESPACE);
  try {
    using kernel = openKernel({ netns: namespacePath(NAMESPACE) });
    kernel.links.set("lo", { up: true });
    const base = { type: "filter", hook: "output", priority: 0, policy: "accept" } as const;
    await kernel.nft.apply([
      { do: "add-table", table: TABLE },
      { do: "add-chain", table: TABLE, chain: { name: "out", base } },
      {
        do: "add-rule",
        table: TABLE,
        chain: "out",
        rule: { exprs: log({ prefix: "API0|np/a/b", group: 5, snaplen: 24 }) },
      },
    ]);
    const seen: (NflogPacket | "overrun")[] = [];
    {
      using _listener = kernel.nflog([4, 5], (packet) => void seen.push(packet));
      expect(() => kernel.nflog([5], () => {})).toThrow(expect.objectContaining({ code: "KERNEL" }));
      await ping({ netns: namespacePath(NAMESPACE), address: parseAddress("127.0.0.1"), timeoutMs: 5000 });
      await expect.poll(() => seen.length, { timeout: 10_000 }).toBeGreaterThan(0);
    }
    const [first] = seen;
    expect(first).toMatchObject({ group: 5, prefix: "API0|np/a/b", family: 4, hook: 3, output: 1 });
    if (typeof first !== "object") throw new Error("no packet");
    expect([...first.payload.subarray(12, 20)]).toEqual([127, 0, 0, 1, 127, 0, 0, 1]);
    expect(first.payload).toHaveLength(24);
    using _again = kernel.nflog([5], () => {});
  } finally {
    deleteNamespace(NAMESPACE);
  }
});
