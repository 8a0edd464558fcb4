import {
  chmodSync,
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
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { installBinaries } from "./binaries.ts";
import { renderConfig, writeConfig } from "./conflist.ts";
import { readInstallOptions } from "./options.ts";
import { uninstall } from "./uninstall.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "install-cni-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const silent = (): void => undefined;

describe("the CNI configuration", () => {
  test("by default names the agent's socket below the host root and the node", () => {
    const options = readInstallOptions({ CALICO_HOST_ROOT: folder, NODENAME: "node-1" }, folder);
    const config = JSON.parse(renderConfig(options)) as { plugins: Record<string, unknown>[] };
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
    const options = readInstallOptions(
      { CALICO_HOST_ROOT: folder, CNI_NETWORK_CONFIG: template, CNI_MTU: "1400" },
      folder,
    );
    const config = JSON.parse(renderConfig(options)) as { plugins: Record<string, unknown>[] };
    expect(config.plugins[0]).toMatchObject({ mtu: 1400, agent_socket: expect.stringContaining("cni.sock") });
    expect(config.plugins[1]).toEqual({ type: "portmap" });
  });

  test.each([
    ["an unknown substitution", '{"name":"__NOPE__"}'],
    ["no JSON", "{"],
    ["no name", "{}"],
  ])("with %s in the template is refused", (_what, template) => {
    const options = readInstallOptions({ CALICO_HOST_ROOT: folder, CNI_NETWORK_CONFIG: template }, folder);
    expect(() => renderConfig(options)).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
  });

  test("replaces the file atomically and removes the one it supersedes, but nobody else's", () => {
    const net = join(folder, "etc/cni/net.d");
    mkdirSync(net, { recursive: true });
    writeFileSync(join(net, "10-calico.conf"), "{}");
    writeFileSync(join(net, "05-other.conf"), "{}");
    const options = readInstallOptions({ CALICO_HOST_ROOT: folder }, folder);
    writeConfig(options, "new\n", silent);
    expect(readdirSync(net).toSorted()).toEqual(["05-other.conf", "10-calico.conflist"]);
    expect(readFileSync(join(net, "10-calico.conflist"), "utf8")).toBe("new\n");
  });
});

describe("the executables", () => {
  const source = (): string => {
    const from = join(folder, "from");
    mkdirSync(from, { recursive: true });
    writeFileSync(join(from, "calico"), "one");
    writeFileSync(join(from, "calico-ipam"), "two");
    return from;
  };

  test("are copied executable, and left alone when current", () => {
    const to = join(folder, "bin");
    const lines: string[] = [];
    const options = { update: true, say: (line: string) => void lines.push(line) };
    installBinaries(source(), to, options);
    expect(statSync(join(to, "calico")).mode & 0o777).toBe(0o755);
    const before = statSync(join(to, "calico")).ino;
    installBinaries(source(), to, options);
    expect(statSync(join(to, "calico")).ino).toBe(before);
    expect(lines.at(-1)).toContain("is current");
    expect(readdirSync(to).toSorted()).toEqual(["calico", "calico-ipam"]);
  });

  test("are not replaced when updates are off", () => {
    const to = join(folder, "bin");
    mkdirSync(to);
    writeFileSync(join(to, "calico"), "older");
    chmodSync(join(to, "calico"), 0o755);
    installBinaries(source(), to, { update: false, say: silent });
    expect(readFileSync(join(to, "calico"), "utf8")).toBe("older");
    expect(existsSync(join(to, "calico-ipam"))).toBe(true);
  });

  test("that are missing from the build are named", () => {
    expect(() => installBinaries(join(folder, "nowhere"), join(folder, "bin"), { update: true, say: silent })).toThrow(
      expect.objectContaining({ code: "NOT_FOUND", message: expect.stringContaining("npm run build") }),
    );
  });
});

describe("more than one folder, and taking everything away", () => {
  test("a secondary folder is used when it is mounted; uninstall leaves what is not ours, and can be repeated", () => {
    const from = join(folder, "from");
    mkdirSync(from);
    for (const name of ["calico", "calico-ipam"]) writeFileSync(join(from, name), name, { mode: 0o755 });
    expect(readInstallOptions({ CALICO_HOST_ROOT: folder }, from).binaryFolders).toHaveLength(1);
    mkdirSync(join(folder, "secondary-bin-dir"));
    const options = readInstallOptions({ CALICO_HOST_ROOT: folder }, from);
    for (const to of options.binaryFolders) installBinaries(from, to, { update: true, say: silent });
    writeConfig(options, renderConfig(options), silent);
    writeFileSync(join(options.configFolder, "99-loopback.conf"), "{}");
    writeFileSync(join(folder, "opt/cni/bin/bridge"), "");
    expect(existsSync(join(folder, "secondary-bin-dir/calico-ipam"))).toBe(true);
    for (let twice = 0; twice < 2; twice++) uninstall(options, silent);
    expect(readdirSync(options.configFolder)).toEqual(["99-loopback.conf"]);
    expect(readdirSync(join(folder, "opt/cni/bin"))).toEqual(["bridge"]);
    expect(readdirSync(join(folder, "secondary-bin-dir"))).toEqual([]);
  });
});
