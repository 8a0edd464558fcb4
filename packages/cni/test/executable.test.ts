import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import type { Server } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

// The program as a container runtime sees it: environment and standard input in, one JSON document and an exit code out. On Node, whose
// coverage and errors are the better ones, and on Bun, which the executable is compiled with and which has sockets of its own.

const MAIN = join(import.meta.dirname, "../src/main.ts");
const BUN = ["@oven/bun-linux-x64/bin/bun", "@oven/bun-linux-aarch64/bin/bun", "bun/bin/bun.exe"]
  .map((path) => join(import.meta.dirname, "../../../node_modules", path))
  .find((path) => existsSync(path) && statSync(path).size > 1_000_000);
if (BUN === undefined) throw new Error("no Bun in node_modules: run npm ci");
let folder: string;
let server: Server | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cni-exec-"));
});
afterEach(async () => {
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  server = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const socket = (): string => join(folder, "cni.sock");
const stdin = (): string =>
  JSON.stringify({ cniVersion: "1.0.0", name: "net", type: "calico", agent_socket: socket() });

async function agentAnswering(answer: string): Promise<string[]> {
  const requests: string[] = [];
  server = createServer({ allowHalfOpen: true }, (connection) => {
    connection.setEncoding("utf8").on("data", (chunk: string) => {
      requests.push(chunk);
      if (chunk.endsWith("\n")) connection.end(answer);
    });
  });
  await new Promise<void>((resolve) => server?.listen(socket(), resolve));
  return requests;
}

async function runOn(
  runtime: string,
  command: string,
  input: string,
): Promise<{ code: number | null; output: string }> {
  const child = spawn(runtime, ["--conditions=calico-src", MAIN], {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: "c1",
      CNI_NETNS: "/run/netns/none",
      CNI_IFNAME: "eth0",
      CNI_ARGS: "A=b",
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}

describe.each([
  ["Node", process.execPath],
  ["Bun", BUN],
])("on %s", (_name, runtime) => {
  const run = (command: string, input: string): ReturnType<typeof runOn> => runOn(runtime, command, input);

  test("ADD prints the agent's result", async () => {
    const requests = await agentAnswering('{"ok":true,"result":{"cniVersion":"1.0.0","ips":[]}}\n');
    expect(await run("ADD", stdin())).toEqual({ code: 0, output: '{"cniVersion":"1.0.0","ips":[]}\n' });
    expect(JSON.parse(requests.join(""))).toMatchObject({
      command: "ADD",
      program: "calico",
      containerId: "c1",
      args: { A: "b" },
    });
  });

  test("the agent's refusal becomes a CNI error and exit code 1", async () => {
    await agentAnswering('{"ok":false,"error":{"code":7,"msg":"mtu is negative","details":"mtu: -1"}}\n');
    const { code, output } = await run("ADD", stdin());
    expect(code).toBe(1);
    expect(JSON.parse(output)).toEqual({ cniVersion: "1.0.0", code: 7, msg: "mtu is negative", details: "mtu: -1" });
  });

  test("an answer cut short is 'try again later', not a crash", async () => {
    await agentAnswering('{"ok":true,"resu');
    const { code, output } = await run("ADD", stdin());
    expect({ code, error: JSON.parse(output) }).toMatchObject({ code: 1, error: { code: 11 } });
  });

  test("ADD without an agent says so, with code 11", async () => {
    const { code, output } = await run("ADD", stdin());
    expect(code).toBe(1);
    expect(JSON.parse(output)).toMatchObject({ code: 11, msg: expect.stringContaining("is not running") });
  });

  test("DEL without an agent is noted for the agent and succeeds, however often", async () => {
    expect(await run("DEL", stdin())).toEqual({ code: 0, output: "" });
    expect(await run("DEL", stdin())).toEqual({ code: 0, output: "" });
    const deferred = join(folder, "cni-deferred");
    expect(readdirSync(deferred)).toEqual(["c1-eth0.json"]);
    expect(JSON.parse(readFileSync(join(deferred, "c1-eth0.json"), "utf8"))).toMatchObject({
      command: "DEL",
      containerId: "c1",
    });
  });

  test("STATUS without an agent: not available, code 50", async () => {
    const { code, output } = await run("STATUS", stdin());
    expect({ code, error: JSON.parse(output) }).toMatchObject({ code: 1, error: { code: 50 } });
  });

  test("VERSION needs nobody", async () => {
    const supportedVersions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    for (const [input, cniVersion] of [
      ['{"cniVersion":"1.0.0"}', "1.0.0"],
      ["", "1.1.0"],
    ] as const) {
      const { code, output } = await run("VERSION", input);
      expect({ code, answer: JSON.parse(output) }).toEqual({ code: 0, answer: { cniVersion, supportedVersions } });
    }
  });

  test("an error is in the version asked for, whatever it is about", async () => {
    const { code, output } = await run("FOO", stdin());
    expect({ code, error: JSON.parse(output) }).toMatchObject({ code: 1, error: { code: 4, cniVersion: "1.0.0" } });
  });

  test("nonsense on standard input is code 6", async () => {
    const { code, output } = await run("ADD", "nonsense");
    expect({ code, error: JSON.parse(output) }).toMatchObject({ code: 1, error: { code: 6 } });
  });

  test("a request larger than a socket's buffer arrives whole", async () => {
    const requests = await agentAnswering('{"ok":true}\n');
    const attachments = Array.from({ length: 20_000 }, (_, at) => ({ containerID: `container-${at}`, ifname: "eth0" }));
    const config = { ...(JSON.parse(stdin()) as object), "cni.dev/valid-attachments": attachments };
    expect(await run("GC", JSON.stringify(config))).toEqual({ code: 0, output: "" });
    expect(JSON.parse(requests.join(""))).toMatchObject({ command: "GC", config });
  });
});
