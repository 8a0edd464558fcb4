import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually, Run, traces } from "./simulator.ts";

// A pod that a BGPPeer selects, by its own label and one of its namespace, runs BIRD: it peers with its node under the address that
// all nodes have for that, and what it announces is reached from pods of every node while it is selected.

const NAME = `t-peers-${process.pid}`;
const FIXTURE = join(import.meta.dirname, "fixtures/pod-peers.yaml");
const BEHIND = "10.123.0.1";
const WITHIN_MS = 60_000;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ct-pod-peers-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  expect(traces(NAME)).toEqual([]);
});

const birdConfig = (address: string): string => `
router id ${address};
protocol device {}
protocol static { ipv4; route 10.123.0.0/26 blackhole; route 10.200.0.0/24 blackhole; }
protocol bgp node {
  local as 65401;
  neighbor 169.254.0.179 as 64512;
  multihop;
  hold time 6;
  keepalive time 2;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 2;
  ipv4 { import all; export all; };
}
`;

const onNode = (node: string, ...words: readonly string[]): string =>
  execFileSync("ip", ["-n", `cs-${NAME}-${node}`, ...words], { encoding: "utf8" });
const routes = (node: string): string => onNode(node, "-4", "route", "show");

test("a pod that speaks BGP with its node", { timeout: 240_000 }, async () => {
  await using run = await Run.up(NAME, "--topology", "bgp-mesh", "--manifests", FIXTURE);
  const address = await run.must("-n", "lab", "get", "pod", "router", "-o", "jsonpath={.status.podIP}");
  const inPod = async (pod: string, ...words: readonly string[]): Promise<string> => {
    const { stdout } = await run.sim("exec", `lab/${pod}`, "--", ...words);
    return stdout;
  };
  const reaches = async (): Promise<string> => {
    const pings = ["near", "far"].map((pod) => run.sim("exec", `lab/${pod}`, "--", "ping", "-nqc1", "-W2", BEHIND));
    return (await Promise.all(pings)).map(({ code }) => code === 0).join();
  };
  const session = (): Promise<string> =>
    inPod("router", "birdc", "-s", join(folder, "ctl"), "show", "protocols", "node");

  writeFileSync(join(folder, "bird.conf"), birdConfig(address));
  await inPod("router", "ip", "address", "add", `${BEHIND}/32`, "dev", "lo");
  await inPod("router", "bird", "-c", join(folder, "bird.conf"), "-s", join(folder, "ctl"), "-P", join(folder, "pid"));
  await eventually("the session", session, (text) => text.includes("Established"), WITHIN_MS);
  await eventually(
    "both nodes' pods reach what the pod announces",
    reaches,
    (pings) => pings === "true,true",
    WITHIN_MS,
  );
  expect(routes("node-1")).toMatch(new RegExp(`^10\\.123\\.0\\.0/26 via ${address} dev cali\\S+ proto bird`, "m"));
  expect(routes("node-2")).toMatch(/^10\.123\.0\.0\/26 via 172\.30\.1\.11 dev eth0 proto bird/m);
  // The filter lets nothing else in, and nothing out.
  expect(routes("node-1") + routes("node-2")).not.toContain("10.200.0.0");
  expect(await inPod("router", "birdc", "-s", join(folder, "ctl"), "show", "route", "protocol", "node")).not.toMatch(
    /unicast/,
  );

  // Its namespace loses the label: no address, no session, no way.
  await run.must("label", "namespace", "lab", "team-");
  await eventually(
    "it is no peer any more",
    () => Promise.resolve(onNode("node-1", "-4", "address", "show") + routes("node-1") + routes("node-2")),
    (text) => !text.includes("169.254.0.179") && !text.includes("10.123.0.0"),
    WITHIN_MS,
  );
  // Its end may not hear why: the address may be gone before the daemon's last word.
  await eventually("no session", session, (text) => !text.includes("Established"), WITHIN_MS);
  expect(await reaches()).toBe("false,false");
  // Its other connections are as they were.
  expect((await run.sim("exec", "lab/near", "--", "ping", "-nqc1", "-W2", address)).code).toBe(0);

  await run.must("label", "namespace", "lab", "team=routing");
  await eventually("a peer again", reaches, (pings) => pings === "true,true", WITHIN_MS);
  await inPod("router", "birdc", "-s", join(folder, "ctl"), "down");
});
