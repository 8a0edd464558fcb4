/**
 * One peer sends a large table: our daemon and BIRD 2 as receivers, BIRD as the sender, one after the other on this machine. `node --conditions=calico-src bench/full-table.ts
 * [routes]`, as root. Time is from the first route in the receiver's table to the last, as each was seen.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createNamespace, deleteNamespace, inNamespace } from "@calico-ts/linux";

const count = Number(process.argv[2] ?? 500_000);
const names = { receiver: `ct-${process.pid}-rx`, sender: `ct-${process.pid}-tx` };
const path = (name: string): string => `/run/netns/${name}`;
const directory = mkdtempSync(join(tmpdir(), "ct-bgp-bench-"));
const children: ChildProcess[] = [];

const start = (netns: string, command: string, args: string[], output: "pipe" | "ignore"): ChildProcess => {
  const child = inNamespace(path(netns), () => spawn(command, args, { stdio: ["ignore", output, "inherit"] }));
  children.push(child);
  return child;
};
const bird = (netns: string, label: string, config: string): ChildProcess => {
  writeFileSync(join(directory, `${label}.conf`), config);
  return start(
    netns,
    "bird",
    ["-f", "-c", join(directory, `${label}.conf`), "-s", join(directory, `${label}.ctl`)],
    "ignore",
  );
};
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

const statics = Array.from(
  { length: count },
  (_, i) => `route ${16 + (i >>> 16)}.${(i >>> 8) & 255}.${i & 255}.1/32 blackhole;`,
);
const peer = (last: number, other: number): string =>
  `protocol bgp p { local 192.0.2.${last} as ${65000 + last}; neighbor 192.0.2.${other} as ${65000 + other}; connect delay time 1; connect retry time 1; ipv4 { import all; export where source = RTS_STATIC; }; }`;
const senderConfig = `router id 192.0.2.2; protocol device {} protocol static { ipv4; ${statics.join("\n")} }\n${peer(2, 1)}`;

function print(what: string, result: { readonly seconds: number; readonly rssMb: number }): void {
  process.stdout.write(
    `${what.padEnd(10)} ${count} routes  ${result.seconds.toFixed(2)} s  ${Math.round(count / result.seconds / 1000)} k/s  rss ${result.rssMb} MB\n`,
  );
}

try {
  for (const name of Object.values(names)) createNamespace(name);
  const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
  ip("link", "add", "eth0", "netns", names.receiver, "type", "veth", "peer", "name", "eth0", "netns", names.sender);
  for (const [name, last] of [
    [names.receiver, 1],
    [names.sender, 2],
  ] as const) {
    ip("-n", name, "addr", "add", `192.0.2.${last}/24`, "dev", "eth0");
    ip("-n", name, "link", "set", "eth0", "up");
  }
  const receiver = start(
    names.receiver,
    process.execPath,
    ["--conditions=calico-src", join(import.meta.dirname, "receiver.ts"), path(names.receiver), String(count)],
    "pipe",
  );
  const lines: string[] = [];
  if (receiver.stdout !== null) createInterface(receiver.stdout).on("line", (line) => lines.push(line));
  while (lines.length < 1) await sleep(20);
  const first = bird(names.sender, "sender", senderConfig);
  while (lines.length < 2) await sleep(20);
  const ours = JSON.parse(lines[1] ?? "{}") as { seconds: number; rssMb: number; peakMb: number; cpuSeconds: number };
  print("calico-ts", ours);
  process.stdout.write(`           peak ${ours.peakMb} MB, cpu ${ours.cpuSeconds.toFixed(2)} s\n`);
  await Promise.all([stop(receiver), stop(first)]);

  const theirs = bird(names.receiver, "receiver", `router id 192.0.2.1; protocol device {} ${peer(1, 2)}`);
  const second = bird(names.sender, "sender", senderConfig);
  const ask = (): { routes: number } => {
    try {
      const text = execFileSync("birdc", ["-s", join(directory, "receiver.ctl"), "show", "protocols", "all", "p"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      return { routes: Number(/Routes:\s+(\d+) imported/.exec(text)?.[1] ?? 0) };
    } catch {
      return { routes: 0 };
    }
  };
  let began = 0;
  for (let state = ask(); state.routes < count; state = ask()) {
    if (began === 0 && state.routes > 0) began = performance.now();
    await sleep(10);
  }
  const seconds = (performance.now() - began) / 1000;
  const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${theirs.pid}/status`, "utf8"))?.[1];
  const bird2 = { seconds, rssMb: Math.round(Number(rss) / 1000) };
  print("BIRD 2", bird2);
  const results = join(import.meta.dirname, "../../../artifacts/bench");
  mkdirSync(results, { recursive: true });
  writeFileSync(
    join(results, "bgp.json"),
    `${JSON.stringify({ routes: count, "calico-ts": ours, bird2, timeRatio: ours.seconds / seconds }, undefined, 2)}\n`,
  );
  await Promise.all([stop(theirs), stop(second)]);
} finally {
  for (const child of children) await stop(child);
  for (const name of Object.values(names)) deleteNamespace(name);
  rmSync(directory, { recursive: true, force: true });
}
