/**
 * Container runtimes nobody here wrote, on one node of a run: containerd through `ctr run --cni`, and podman with its CNI back end. They run in the
 * node's network namespace and find the plugins and the network configuration where the installer put them, below the node's host root. A container's
 * root file system is one static busybox. Everything they keep lies in one temporary folder; what they want at fixed places (/etc/cni/net.d,
 * /opt/cni/bin) is mounted for the one process that looks.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const REFERENCE_PLUGINS = "/usr/lib/cni";
const APPLETS = ["sh", "nc", "httpd", "sleep", "echo", "cat", "printf"];

export interface Container {
  readonly ended: Promise<number | null>;
  readonly output: () => string;
  stop(): Promise<void>;
}

/** A container as the pod that the cluster knows. */
export interface PodContainer {
  readonly namespace: string;
  readonly name: string;
  readonly command: readonly string[];
}

interface Conflist {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly object[];
}

export interface NodePlace {
  /** Path of the node's network namespace. */
  readonly netns: string;
  readonly hostRoot: string;
  /** Run after ours for every container. */
  readonly chained: readonly object[];
}

export class NodeRuntimes implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "ct-runtime-"));
  readonly #plugins = join(this.#folder, "plugins");
  readonly #place: NodePlace;
  readonly #containerd: ChildProcess;
  readonly #running = new Set<Container>();
  #made = 0;

  constructor(place: NodePlace) {
    this.#place = place;
    mkdirSync(this.#plugins);
    for (const from of [REFERENCE_PLUGINS, join(place.hostRoot, "opt/cni/bin")]) {
      for (const name of readdirSync(from)) symlinkSync(join(from, name), join(this.#plugins, name));
    }
    const config = [
      "version = 2",
      `root = "${this.#folder}/root"`,
      `state = "${this.#folder}/state"`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
      "[grpc]",
      `address = "${this.#folder}/sock"`,
    ];
    writeFileSync(join(this.#folder, "containerd.toml"), `${config.join("\n")}\n`);
    const command = ["containerd", "-c", join(this.#folder, "containerd.toml")];
    this.#containerd = spawn("nsenter", [`--net=${place.netns}`, ...command], { stdio: "ignore" });
  }

  /** Whether containerd answers. */
  get ready(): boolean {
    const socket = join(this.#folder, "sock");
    return existsSync(socket) && spawnSync("ctr", ["--address", socket, "version"], { stdio: "ignore" }).status === 0;
  }

  /** `ctr run --cni`. */
  ctr(container: PodContainer): Container {
    const { folder: configs } = this.#configure(container);
    const id = `ct-${process.pid}-${container.namespace}-${container.name}`;
    const etc = join(this.#folder, "etc", id);
    mkdirSync(etc, { recursive: true });
    const mounts = [
      `mount -t tmpfs tmpfs ${etc}`,
      `mkdir ${etc}/upper ${etc}/work`,
      `mount -t overlay overlay -o lowerdir=/etc,upperdir=${etc}/upper,workdir=${etc}/work /etc`,
      "mkdir -p /etc/cni/net.d",
      `mount --bind ${configs} /etc/cni/net.d`,
      "mount -t tmpfs tmpfs /opt",
      "mkdir -p /opt/cni/bin",
      `mount --bind ${this.#plugins} /opt/cni/bin`,
    ];
    const run = `ctr --address ${this.#folder}/sock run --rm --rootfs --cni ${this.#rootFileSystem(container)} ${id}`;
    const script = `${mounts.join(" && ")} && exec ${run} "$@"`;
    return this.#start(["unshare", "--mount", "sh", "-c", script, "sh", ...container.command], {
      kill: ["ctr", "--address", join(this.#folder, "sock"), "task", "kill", "-s", "SIGKILL", id],
      env: process.env,
    });
  }

  /** `podman run`. */
  podman(container: PodContainer): Container {
    const { folder: configs, network } = this.#configure(container);
    const configuration = join(this.#folder, "containers.conf");
    writeFileSync(
      configuration,
      `[containers]\ndefault_ulimits = []\n[network]\nnetwork_backend = "cni"\ncni_plugin_dirs = ["${this.#plugins}"]\nnetwork_config_dir = "${configs}"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n`,
    );
    const common = [
      ...["podman", "--root", join(this.#folder, "podman"), "--runroot", join(this.#folder, "podman-run")],
      ...["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--tmpdir", join(this.#folder, "podman-tmp")],
    ];
    const env = { ...process.env, CONTAINERS_CONF: configuration, TMPDIR: "/tmp" };
    const options = ["--rm", "--name", container.name, "--ulimit", "host", "--network", network, "--rootfs"];
    return this.#start([...common, "run", ...options, this.#rootFileSystem(container), ...container.command], {
      kill: [...common, "rm", "-f", "-t", "0", container.name],
      env,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // runc keeps its state outside our folder: containers that a failed test left are ended properly.
    for (const container of this.#running) await container.stop().catch(() => undefined);
    this.#containerd.kill("SIGTERM");
    await new Promise((resolve) =>
      this.#containerd.exitCode === null ? this.#containerd.once("exit", resolve) : resolve(undefined),
    );
    const left = execFileSync("findmnt", ["-rno", "TARGET"], { encoding: "utf8" })
      .split("\n")
      .filter((target) => target.startsWith(this.#folder));
    for (const target of left.toReversed()) execFileSync("umount", ["-l", target]);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #rootFileSystem({ name }: PodContainer): string {
    const root = join(this.#folder, "fs", `${name}-${(this.#made += 1)}`);
    for (const folder of ["bin", "proc", "sys", "dev", "tmp", "etc", "run", "www"]) {
      mkdirSync(join(root, folder), { recursive: true });
    }
    copyFileSync("/usr/bin/busybox", join(root, "bin/busybox"));
    for (const applet of APPLETS) symlinkSync("busybox", join(root, "bin", applet));
    writeFileSync(join(root, "www/index.html"), `this is ${name}\n`);
    return root;
  }

  /**
   * The node's own network configuration, in a version both runtimes speak. ctr names no pod in CNI_ARGS and podman no namespace: the configuration
   * does, so each container has its own.
   */
  #configure({ name, namespace }: PodContainer): { readonly folder: string; readonly network: string } {
    const installed = join(this.#place.hostRoot, "etc/cni/net.d/10-calico.conflist");
    const network = JSON.parse(readFileSync(installed, "utf8")) as Conflist;
    const args = { cni: { K8S_POD_NAMESPACE: namespace, K8S_POD_NAME: name } };
    const plugins = [...network.plugins.map((plugin) => ({ ...plugin, args })), ...this.#place.chained];
    const folder = join(this.#folder, "net.d", `${namespace}-${name}`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "10-calico.conflist"), JSON.stringify({ ...network, cniVersion: "0.4.0", plugins }));
    return { folder, network: network.name };
  }

  #start(
    command: readonly string[],
    { kill, env }: { readonly kill: readonly string[]; readonly env: NodeJS.ProcessEnv },
  ): Container {
    const child = spawn("nsenter", [`--net=${this.#place.netns}`, ...command], {
      stdio: ["ignore", "pipe", "pipe"],
      env,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
    }
    const ended = new Promise<number | null>((resolve) => {
      child.on("error", () => resolve(-1));
      child.on("close", (code) => {
        this.#running.delete(container);
        resolve(code);
      });
    });
    const stop = async (): Promise<void> => {
      const [program = "", ...args] = kill;
      if (child.exitCode === null) execFileSync(program, args, { stdio: "ignore", env });
      await ended;
    };
    const container: Container = { ended, output: () => output, stop };
    this.#running.add(container);
    return container;
  }
}
