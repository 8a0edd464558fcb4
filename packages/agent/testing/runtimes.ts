/**
 * Container runtimes nobody here wrote, on a root file system of one static busybox: containerd through `ctr run --cni`, and podman with its CNI back end. Everything
 * they keep lies in one temporary folder; what they want at fixed places (/etc/cni/net.d, /opt/cni/bin) is mounted for the one process that looks.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CNI_FOLDER } from "./cni-node.ts";

const REFERENCE_PLUGINS = "/usr/lib/cni";
const APPLETS = ["sh", "nc", "httpd", "sleep", "echo", "cat", "printf"];

export interface RunningContainer {
  readonly ended: Promise<number | null>;
  readonly output: () => string;
  stop(): Promise<void>;
}

export class Runtimes implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "ct-runtime-"));
  readonly plugins = join(this.folder, "plugins");
  readonly #containerd: ChildProcess;
  readonly #running = new Set<RunningContainer>();

  constructor() {
    mkdirSync(this.plugins);
    for (const from of [REFERENCE_PLUGINS, CNI_FOLDER]) {
      for (const name of readdirSync(from)) symlinkSync(join(from, name), join(this.plugins, name));
    }
    const config = [
      "version = 2",
      `root = "${this.folder}/root"`,
      `state = "${this.folder}/state"`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
      "[grpc]",
      `address = "${this.folder}/sock"`,
    ];
    writeFileSync(join(this.folder, "containerd.toml"), `${config.join("\n")}\n`);
    this.#containerd = spawn("containerd", ["-c", join(this.folder, "containerd.toml")], { stdio: "ignore" });
  }

  /** Whether containerd answers. */
  get ready(): boolean {
    const socket = join(this.folder, "sock");
    return existsSync(socket) && spawnSync("ctr", ["--address", socket, "version"], { stdio: "ignore" }).status === 0;
  }

  rootFileSystem(name: string): string {
    const root = join(this.folder, "fs", name);
    for (const folder of ["bin", "proc", "sys", "dev", "tmp", "etc", "run", "www"]) {
      mkdirSync(join(root, folder), { recursive: true });
    }
    copyFileSync("/usr/bin/busybox", join(root, "bin/busybox"));
    for (const applet of APPLETS) symlinkSync("busybox", join(root, "bin", applet));
    writeFileSync(join(root, "www/index.html"), `this is ${name}\n`);
    return root;
  }

  /** `ctr run --cni`: the network configuration is the only one ctr finds. */
  ctr(name: string, conflist: object, command: readonly string[]): RunningContainer {
    const configs = this.#configFolder(name, conflist);
    const root = this.rootFileSystem(name);
    const id = `ct-${process.pid}-${name}`;
    const etc = join(this.folder, "etc", name);
    mkdirSync(etc, { recursive: true });
    const mounts = [
      `mount -t tmpfs tmpfs ${etc}`,
      `mkdir ${etc}/upper ${etc}/work`,
      `mount -t overlay overlay -o lowerdir=/etc,upperdir=${etc}/upper,workdir=${etc}/work /etc`,
      "mkdir -p /etc/cni/net.d",
      `mount --bind ${configs} /etc/cni/net.d`,
      "mount -t tmpfs tmpfs /opt",
      "mkdir -p /opt/cni/bin",
      `mount --bind ${this.plugins} /opt/cni/bin`,
    ];
    const script = `${mounts.join(" && ")} && exec ctr --address ${this.folder}/sock run --rm --rootfs --cni ${root} ${id} "$@"`;
    return this.#start("unshare", ["--mount", "sh", "-c", script, "sh", ...command], () => {
      execFileSync("ctr", ["--address", join(this.folder, "sock"), "task", "kill", "-s", "SIGKILL", id], {
        stdio: "ignore",
      });
    });
  }

  /** `podman run`: it tells the plugin the container's name as pod and as namespace. */
  podman(name: string, conflist: object & { readonly name: string }, command: readonly string[]): RunningContainer {
    const configs = this.#configFolder(name, conflist);
    const configuration = join(this.folder, "containers.conf");
    writeFileSync(
      configuration,
      `[containers]\ndefault_ulimits = []\n[network]\nnetwork_backend = "cni"\ncni_plugin_dirs = ["${this.plugins}"]\nnetwork_config_dir = "${configs}"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n`,
    );
    const storage = [
      "--root",
      join(this.folder, "podman"),
      "--runroot",
      join(this.folder, "podman-run"),
      "--storage-driver",
      "vfs",
    ];
    const common = [...storage, "--cgroup-manager", "cgroupfs", "--tmpdir", join(this.folder, "podman-tmp")];
    const env = { ...process.env, CONTAINERS_CONF: configuration, TMPDIR: "/tmp" };
    const run = [
      "run",
      "--rm",
      "--name",
      name,
      "--ulimit",
      "host",
      "--network",
      conflist.name,
      "--rootfs",
      this.rootFileSystem(name),
    ];
    return this.#start(
      "podman",
      [...common, ...run, ...command],
      () => {
        execFileSync("podman", [...common, "rm", "-f", "-t", "0", name], { stdio: "ignore", env });
      },
      env,
    );
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
      .filter((target) => target.startsWith(this.folder));
    for (const target of left.toReversed()) execFileSync("umount", ["-l", target]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  #configFolder(name: string, conflist: object): string {
    const folder = join(this.folder, "net.d", name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "10-calico.conflist"), JSON.stringify(conflist));
    return folder;
  }

  #start(command: string, args: readonly string[], kill: () => void, env = process.env): RunningContainer {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env });
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
      if (child.exitCode === null) kill();
      await ended;
    };
    const container: RunningContainer = { ended, output: () => output, stop };
    this.#running.add(container);
    return container;
  }
}
