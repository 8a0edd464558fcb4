import { execFileSync } from "node:child_process";
import { createNamespace, deleteNamespace, namespacePath } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EchoStreams } from "./streams.ts";

// Two pods (namespaces joined by a veth), and rules in the second that lose what they are told to.
const [left, right] = [`ct-s-${process.pid}-l`, `ct-s-${process.pid}-r`];
const stack = new DisposableStack();
const ip = (...words: string[]) => execFileSync("ip", words);
const nft = (rule: string) => execFileSync("ip", ["netns", "exec", right, "nft", rule]);

beforeAll(() => {
  for (const name of [left, right]) {
    createNamespace(name);
    stack.defer(() => deleteNamespace(name));
  }
  ip("-n", left, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", right);
  for (const [name, host] of [
    [left, 1],
    [right, 2],
  ] as const) {
    ip("-n", name, "addr", "add", `10.9.0.${host}/24`, "dev", "eth0");
    ip("-n", name, "addr", "add", `fd09::${host}/64`, "dev", "eth0", "nodad");
    ip("-n", name, "link", "set", "eth0", "up");
  }
  nft("add table inet t; add chain inet t in { type filter hook input priority 0; }");
});
afterAll(() => stack.dispose());

const flows = ["10.9.0.2", "fd09::2", "10.9.0.2"].map((to, index) => ({
  name: `flow ${index}`,
  netns: namespacePath(left),
  to: parseAddress(to),
}));

/** The longest rows of answers of a machine that is busy elsewhere come late, but they come: this many packets, whatever time it takes. */
async function loss(streams: EchoStreams, packets: number) {
  const from = streams.mark();
  while (streams.mark().some((sent, flow) => sent - (from[flow] ?? 0) < packets))
    await new Promise((resolve) => setTimeout(resolve, 20));
  const [found] = await streams.lossSince(from);
  return found;
}

test("nothing is lost where nothing is dropped, in both families, and several flows go to one address", async () => {
  using streams = new EchoStreams(flows);
  await loss(streams, 5); // neighbours are being learned
  const found = await loss(streams, 100);
  expect(found.sent).toBeGreaterThanOrEqual(300);
  expect(found).toMatchObject({ lost: 0, longestGapMs: 0, flows: [] });
});

test("what one family loses is told by flow, and only while it is dropped", async () => {
  using streams = new EchoStreams(flows);
  await loss(streams, 5);
  nft("add rule inet t in icmpv6 type echo-request drop");
  const while_ = await loss(streams, 50);
  nft("flush chain inet t in");
  expect(while_.flows.map(({ flow }) => flow)).toEqual([1]);
  expect(while_.lost).toBeGreaterThan(40);
  expect(while_.longestGapMs).toBeGreaterThan(300);
  await loss(streams, 1);
  expect(await loss(streams, 50)).toMatchObject({ lost: 0 });
});

test("connections that begin are asked about too: one packet in ten", async () => {
  using streams = new EchoStreams(flows.slice(0, 1));
  await loss(streams, 5);
  nft("add rule inet t in icmp id >= 32768 drop");
  const found = await loss(streams, 100);
  nft("flush chain inet t in");
  expect(found.lost / found.sent).toBeGreaterThan(0.05);
  expect(found.lost / found.sent).toBeLessThan(0.15);
});
