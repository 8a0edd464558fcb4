import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { installBinaries } from "./binaries.ts";
import { renderConfig, writeConfig } from "./conflist.ts";
import { type InstallOptions, readInstallOptions } from "./options.ts";
import { uninstall } from "./uninstall.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "install-cni-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const silent = (): void => undefined;

/** On a host below `folder`. */
const optionsOf = (env: Readonly<Record<string, string>> = {}, source = folder): InstallOptions =>
  readInstallOptions({ CALICO_HOST_ROOT: folder, ...env }, source);

describe("the CNI configuration", () => {
  test("by default names the agent's socket below the host root and the node", () => {
    const config = JSON.parse(renderConfig(optionsOf({ NODENAME: "node-1" }))) as {
      plugins: Record<string, unknown>[];
    };
    expect(config.plugins[0]).toMatchObject({
      type: "calico",
      nodename: "node-1",
      mtu: 0,
      agent_socket: join(folder, "var/run/calico/cni.sock"),
      ipam: { type: "calico-ipam" },
    });
  });

  test("on a real host is written below /host while the socket is the host's own path", () => {
    const options = readInstallOptions({ NODENAME: "n" }, folder);
    expect(options.configFolder).toBe("/host/etc/cni/net.d");
    expect(renderConfig(options)).toContain('"/var/run/calico/cni.sock"');
  });

  test("from a template written for upstream gets the socket added", () => {
    const template =
      '{"name":"x","cniVersion":"0.3.1","plugins":[{"type":"calico","mtu":__CNI_MTU__,"kubernetes":{"kubeconfig":"__KUBECONFIG_FILEPATH__"}},{"type":"portmap"}]}';
    const config = JSON.parse(renderConfig(optionsOf({ CNI_NETWORK_CONFIG: template, CNI_MTU: "1400" }))) as {
      plugins: Record<string, unknown>[];
    };
    expect(config.plugins[0]).toMatchObject({ mtu: 1400, agent_socket: expect.stringContaining("cni.sock") });
    expect(config.plugins[1]).toEqual({ type: "portmap" });
  });

  test.each([
    ["an unknown substitution", '{"name":"__NOPE__"}'],
    ["no JSON", "{"],
    ["no name", "{}"],
    ["no plugin", '{"name":"x","plugins":[]}'],
  ])("with %s in the template is refused", (_what, template) => {
    expect(() => renderConfig(optionsOf({ CNI_NETWORK_CONFIG: template }))).toThrow(
      expect.objectContaining({ code: "BAD_INPUT" }),
    );
  });

  test("knows every substitution of upstream's, and no credential", () => {
    const names = ["ETCD_CERT_FILE", "ETCD_KEY_FILE", "ETCD_CA_CERT_FILE", "SERVICEACCOUNT_TOKEN", "LOG_FILE_PATH"];
    const template = JSON.stringify({ name: "x", type: "calico", values: names.map((name) => `__${name}__`) });
    const sizes = template.replace(
      '"values"',
      '"sizes":[__LOG_FILE_MAX_SIZE__,__LOG_FILE_MAX_AGE__,__LOG_FILE_MAX_COUNT__],"values"',
    );
    const config: unknown = JSON.parse(renderConfig(optionsOf({ CNI_NETWORK_CONFIG: sizes, LOG_FILE_MAX_AGE: "7" })));
    expect(config).toMatchObject({ sizes: [100, 7, 10], values: ["", "", "", "", "/var/log/calico/cni/cni.log"] });
  });

  test("goes where manifests mount the host's folder, whichever that is", () => {
    const options = readInstallOptions({ CNI_NET_DIR: "/var/snap/cni", CNI_NETWORK_CONFIG: "" }, folder);
    expect(options.configFolder).toBe("/host/etc/cni/net.d");
    expect(options.substitutions["__KUBECONFIG_FILEPATH__"]).toBe("/var/snap/cni/calico-kubeconfig");
    expect(optionsOf({ CNI_NET_DIR: "/srv/cni" }).configFolder).toBe(join(folder, "srv/cni"));
  });

  test.each([
    ["CNI_MTU", "large"],
    ["CNI_CONF_NAME", "../x.conf"],
    ["CNI_OLD_CONF_NAME", "old"],
    ["CNI_NETWORK_CONFIG_FILE", "/nowhere"],
    ["UPDATE_CNI_BINARIES", "maybe"],
  ])("%s=%s is refused by name", (name, value) => {
    const refused = { code: "BAD_INPUT", message: expect.stringContaining(name) as string };
    expect(() => optionsOf({ [name]: value })).toThrow(expect.objectContaining(refused));
  });

  test("replaces the file atomically and removes those it supersedes, but nobody else's", () => {
    const net = join(folder, "etc/cni/net.d");
    mkdirSync(net, { recursive: true });
    for (const name of ["10-calico.conf", "05-other.conf"]) writeFileSync(join(net, name), "{}");
    writeConfig(optionsOf(), "new\n", silent);
    expect(readdirSync(net).toSorted()).toEqual(["05-other.conf", "10-calico.conflist"]);
    expect(readFileSync(join(net, "10-calico.conflist"), "utf8")).toBe("new\n");
    writeConfig(optionsOf({ CNI_CONF_NAME: "00-net.conflist" }), "newer\n", silent);
    expect(readdirSync(net).toSorted()).toEqual(["00-net.conflist", "05-other.conf"]);
    const again = { CNI_CONF_NAME: "01-net.conflist", CNI_OLD_CONF_NAME: "00-net.conflist" };
    writeConfig(optionsOf(again), "newest\n", silent);
    expect(readdirSync(net).toSorted()).toEqual(["01-net.conflist", "05-other.conf"]);
  });

  test("of an installer that was killed is taken away later, of one that runs is not", () => {
    const net = join(folder, "etc/cni/net.d");
    mkdirSync(net, { recursive: true });
    const left = join(net, ".10-calico.conflist.0.partial");
    writeFileSync(left, "half");
    writeConfig(optionsOf(), "new\n", silent);
    expect(existsSync(left)).toBe(true);
    vi.useFakeTimers({ now: Date.now() + 3_600_000, toFake: ["Date"] });
    try {
      writeConfig(optionsOf(), "newer\n", silent);
    } finally {
      vi.useRealTimers();
    }
    expect(readdirSync(net)).toEqual(["10-calico.conflist"]);
  });
});

describe("the executables", () => {
  const source = (): string => {
    const from = join(folder, "from");
    mkdirSync(from, { recursive: true });
    for (const name of ["calico", "calico-ipam"]) {
      writeFileSync(join(from, name), `#!/bin/sh\necho ${name} 1.2.3\n`, { mode: 0o755 });
    }
    return from;
  };
  const to = (): string => join(folder, "opt/cni/bin");

  test("are copied executable, tell their version, and are left alone when current", () => {
    const lines: string[] = [];
    const say = (line: string): void => void lines.push(line);
    installBinaries(optionsOf({}, source()), say);
    expect(lines).toEqual([
      `installed ${to()}/calico: calico 1.2.3`,
      `installed ${to()}/calico-ipam: calico-ipam 1.2.3`,
    ]);
    expect(statSync(join(to(), "calico")).mode & 0o777).toBe(0o755);
    const before = statSync(join(to(), "calico")).ino;
    installBinaries(optionsOf({}, source()), say);
    expect(statSync(join(to(), "calico")).ino).toBe(before);
    expect(lines.at(-1)).toContain("is current");
    expect(readdirSync(to()).toSorted()).toEqual(["calico", "calico-ipam"]);
  });

  test("are not replaced when updates are off", () => {
    mkdirSync(to(), { recursive: true });
    writeFileSync(join(to(), "calico"), "older", { mode: 0o755 });
    installBinaries(optionsOf({ UPDATE_CNI_BINARIES: "false" }, source()), silent);
    expect(readFileSync(join(to(), "calico"), "utf8")).toBe("older");
    expect(existsSync(join(to(), "calico-ipam"))).toBe(true);
  });

  test("that SKIP_CNI_BINARIES lists are neither installed nor uninstalled", () => {
    const options = optionsOf({ SKIP_CNI_BINARIES: "portmap, calico-ipam" }, source());
    installBinaries(options, silent);
    expect(readdirSync(to())).toEqual(["calico"]);
    writeFileSync(join(to(), "calico-ipam"), "theirs");
    uninstall(options, silent);
    expect(readdirSync(to())).toEqual(["calico-ipam"]);
  });

  test("a folder that takes no change is passed over where another takes them, and is refused alone", () => {
    mkdirSync(join(folder, "opt/cni"), { recursive: true });
    writeFileSync(to(), "a file: nobody, not even root, makes something in it");
    const refused = { code: "NO_PERMISSION", message: expect.stringContaining(to()) as string };
    expect(() => installBinaries(optionsOf({}, source()), silent)).toThrow(expect.objectContaining(refused));
    mkdirSync(join(folder, "secondary-bin-dir"));
    const lines: string[] = [];
    installBinaries(optionsOf({}, source()), (line) => lines.push(line));
    expect(readdirSync(join(folder, "secondary-bin-dir")).toSorted()).toEqual(["calico", "calico-ipam"]);
    expect(lines.at(-1)).toContain(`passed over: ${to()}/calico cannot be written`);
  });

  test("that are missing from the build are named", () => {
    expect(() => installBinaries(optionsOf({}, join(folder, "nowhere")), silent)).toThrow(
      expect.objectContaining({ code: "NOT_FOUND", message: expect.stringContaining("npm run build") }),
    );
  });
});

describe("more than one folder, and taking everything away", () => {
  test("a secondary folder is used when it is mounted; uninstall leaves what is not ours, and can be repeated", () => {
    const from = join(folder, "from");
    mkdirSync(from);
    for (const name of ["calico", "calico-ipam"]) writeFileSync(join(from, name), name, { mode: 0o755 });
    expect(optionsOf({}, from).binaryFolders).toHaveLength(1);
    mkdirSync(join(folder, "secondary-bin-dir"));
    const options = optionsOf({}, from);
    installBinaries(options, silent);
    writeConfig(options, renderConfig(options), silent);
    writeFileSync(join(options.configFolder, "99-loopback.conf"), "{}");
    writeFileSync(join(folder, "opt/cni/bin/bridge"), "");
    writeFileSync(join(folder, "opt/cni/bin/.calico.0.partial"), "half of one, by an installer that was killed");
    expect(existsSync(join(folder, "secondary-bin-dir/calico-ipam"))).toBe(true);
    for (let twice = 0; twice < 2; twice++) uninstall(options, silent);
    expect(readdirSync(options.configFolder)).toEqual(["99-loopback.conf"]);
    expect(readdirSync(join(folder, "opt/cni/bin"))).toEqual(["bridge"]);
    expect(readdirSync(join(folder, "secondary-bin-dir"))).toEqual([]);
  });
});
