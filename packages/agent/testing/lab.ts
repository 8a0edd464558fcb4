/**
 * Namespaces for the agent's kernel tests: nodes on a shared segment, pods behind them as CNI would make them. Made and looked
 * at with `ip`, `nft` and friends, which are independent witnesses of what our netlink code did.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNamespace, deleteNamespace, namespacePath } from "@calico-ts/linux";
import { sha1Hex } from "@calico-ts/std";

let counter = 0;

export interface LabPod {
  readonly namespace: string;
  readonly address: string;
  readonly interfaceName: string;
}

export class Lab implements AsyncDisposable {
  readonly #namespaces = new Set<string>();
  readonly #processes = new Set<{ kill: () => Promise<void> }>();
  readonly #prefix = `ct-${process.pid}-${(counter += 1)}`;
  #linkNumber = 0;
  #folder: string | undefined;

  /** For files: made when it is asked for, gone with the lab. */
  get folder(): string {
    return (this.#folder ??= mkdtempSync(join(tmpdir(), "ct-lab-")));
  }

  /** A namespace with lo up. Returns its name. */
  namespace(label: string): string {
    const name = `${this.#prefix}-${label}`;
    createNamespace(name);
    this.#namespaces.add(name);
    this.ip(name, "link set lo up");
    return name;
  }

  path(namespace: string): string {
    return namespacePath(namespace);
  }

  /** Nodes `n1`, `n2`… on one switch, `192.168.0.<n>/24` and `fd00:10::<n>/64` on eth0. */
  nodes(count: number): readonly string[] {
    const segment = this.namespace("switch");
    this.ip(segment, "link add br0 type bridge");
    this.ip(segment, "link set br0 up");
    return Array.from({ length: count }, (_, at) => {
      const node = this.namespace(`n${at + 1}`);
      this.#veth({ from: node, name: "eth0" }, { to: segment, peer: `p${at}` });
      this.ip(segment, `link set p${at} master br0`);
      this.ip(node, `address add 192.168.0.${at + 1}/24 dev eth0`);
      this.ip(node, `address add fd00:10::${at + 1}/64 dev eth0 nodad`);
      return node;
    });
  }

  /** What a CNI ADD leaves: pair, address and default route in the pod; no route and no sysctl on the node. */
  pod(node: string, podName: string, address: string, address6?: string): LabPod {
    const namespace = this.namespace(podName.replace("/", "-"));
    const interfaceName = `cali${sha1Hex(podName.replace("/", ".")).slice(0, 11)}`;
    this.#veth({ from: node, name: interfaceName }, { to: namespace, peer: "eth0" });
    this.ip(namespace, `address add ${address}/32 dev eth0`);
    this.ip(node, `link set ${interfaceName} address ee:ee:ee:ee:ee:ee`);
    this.ip(namespace, "neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0");
    this.ip(namespace, "route add 169.254.1.1 dev eth0 scope link");
    this.ip(namespace, "route add default via 169.254.1.1");
    if (address6 !== undefined) {
      const gateway = "fe80::ecee:eeff:feee:eeee"; // of the host's MAC, EUI-64
      this.ip(namespace, `address add ${address6}/128 dev eth0 nodad`);
      this.ip(namespace, `neigh add ${gateway} lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0`);
      this.ip(namespace, `route add default via ${gateway} dev eth0`);
    }
    return { namespace, address, interfaceName };
  }

  ip(namespace: string, args: string): string {
    return this.exec(namespace, "ip", ...args.split(" "));
  }

  nft(namespace: string, ...args: readonly string[]): string {
    return this.exec(namespace, "nft", ...args);
  }

  exec(namespace: string, ...command: readonly string[]): string {
    return execFileSync("ip", ["netns", "exec", namespace, ...command], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** True as soon as one echo of a few comes back. */
  pings(from: string, address: string, { count = 1 }: { readonly count?: number } = {}): boolean {
    for (let left = count; left > 0; left--) {
      try {
        this.exec(from, "ping", "-n", "-q", "-c", "1", "-W", "1", address);
        return true;
      } catch {
        // The next one.
      }
    }
    return false;
  }

  /** A TCP server in the namespace that answers every line with itself. */
  async serve(namespace: string, port: number): Promise<void> {
    const script = `require("node:net").createServer(s=>{s.on("error",()=>{});s.pipe(s)}).listen(${port},"0.0.0.0",()=>console.log("up"))`;
    await this.start(namespace, [process.execPath, "-e", script], "up");
  }

  connects(from: string, address: string, port: number): boolean {
    try {
      this.exec(from, "timeout", "1", "bash", "-c", `exec 3<>/dev/tcp/${address}/${port}`);
      return true;
    } catch {
      return false;
    }
  }

  /** Starts a process in the namespace and waits for a word on its output. */
  start(
    namespace: string,
    command: readonly string[],
    until: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<LabProcess> {
    const child = spawn("ip", ["netns", "exec", namespace, ...command], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const exited = new Promise<number>((resolve) =>
      child.once("exit", (code, signal) => resolve(code ?? (signal ? -1 : 0))),
    );
    const kill = async (signal: NodeJS.Signals = "SIGKILL"): Promise<void> => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      await exited;
    };
    const started: LabProcess = { pid: child.pid ?? 0, exited, kill, output: () => output };
    this.#processes.add(started);
    return new Promise((resolve, reject) => {
      const note = (chunk: Buffer): void => {
        output += chunk.toString();
        if (output.includes(until)) resolve(started);
      };
      child.stdout.on("data", note);
      child.stderr.on("data", note);
      void exited.then((code) => reject(new Error(`${command.join(" ")} ended with ${code}: ${output}`)));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#processes) await running.kill();
    for (const name of this.#namespaces) if (existsSync(namespacePath(name))) deleteNamespace(name);
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  #veth(one: { from: string; name: string }, other: { to: string; peer: string }): void {
    const temporary = `t${process.pid}x${(this.#linkNumber += 1)}`;
    this.ip(one.from, `link add ${one.name} type veth peer name ${temporary} netns ${other.to}`);
    this.ip(other.to, `link set ${temporary} name ${other.peer}`);
    this.ip(other.to, `link set ${other.peer} up`);
    this.ip(one.from, `link set ${one.name} up`);
  }
}

export interface LabProcess {
  readonly pid: number;
  readonly exited: Promise<number>;
  readonly kill: (signal?: NodeJS.Signals) => Promise<void>;
  readonly output: () => string;
}

/** Waits for a condition that comes true by itself; says what it waited for when it does not. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<number> {
  const start = performance.now();
  for (;;) {
    if (await condition()) return performance.now() - start;
    if (performance.now() - start > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
