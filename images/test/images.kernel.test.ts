import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { type BuiltImage, buildImages, machineSuite } from "../src/build.ts";
import { IMAGE_NAMES, type ImageName, RECIPES } from "../src/recipes.ts";
import { Engine, type Output, run } from "./engine.ts";

// The images as `npm run images` makes them, first in a root file system unpacked from the archive, then in an engine where there is one.

/** What the init container's environment comes to in a cluster, the ConfigMap's template included. */
const CONFIG_VARIABLES = {
  CNI_CONF_NAME: "10-calico.conflist",
  CNI_MTU: "1440",
  KUBERNETES_NODE_NAME: "node-1",
  CNI_NETWORK_CONFIG: networkConfigTemplate(),
};

function networkConfigTemplate(): string {
  const text = readFileSync(join(import.meta.dirname, "../../manifests/calico.yaml"), "utf8");
  for (const document of parseAllDocuments(text)) {
    const template: unknown = document.getIn(["data", "cni_network_config"]);
    if (typeof template === "string") return template;
  }
  throw new Error("manifests/calico.yaml has no cni_network_config");
}

let folder: string;
let images: ReadonlyMap<ImageName, BuiltImage>;

async function build(output: string): Promise<ReadonlyMap<ImageName, BuiltImage>> {
  const checkout = join(import.meta.dirname, "../..");
  const options = {
    checkout,
    output: join(folder, output),
    suite: machineSuite(),
    refreshBase: false,
    createdEpoch: 0,
  };
  return new Map((await buildImages(options)).map((image) => [image.name, image]));
}

function image(name: ImageName): BuiltImage {
  const built = images.get(name);
  if (built === undefined) throw new Error(`image ${name} was not built`);
  return built;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ct-images-"));
  images = await build("first");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What install-cni must have left on a host. */
async function expectInstalled(host: string): Promise<void> {
  for (const name of ["calico", "calico-ipam"]) {
    expect(statSync(join(host, "opt/cni/bin", name)).mode & 0o7777).toBe(0o755);
  }
  expect(JSON.parse(readFileSync(join(host, "etc/cni/net.d/10-calico.conflist"), "utf8"))).toMatchObject({
    name: "k8s-pod-network",
    plugins: expect.arrayContaining([
      expect.objectContaining({ type: "calico", mtu: 1440, agent_socket: "/var/run/calico/cni.sock" }),
    ]) as unknown,
  });
  // The host runs it, not the image.
  const version = await run(join(host, "opt/cni/bin/calico"), [], {
    env: { CNI_COMMAND: "VERSION" },
    input: '{"cniVersion":"1.0.0"}',
  });
  expect(JSON.parse(version.stdout)).toMatchObject({ supportedVersions: expect.arrayContaining(["1.0.0"]) as unknown });
}

describe("the archives", () => {
  test("built twice are the same bytes", async () => {
    const again = await build("second");
    for (const [name, { sha256, imageId }] of images) expect(again.get(name)).toMatchObject({ sha256, imageId });
    rmSync(join(folder, "second"), { recursive: true });
  });

  test("are small: Debian's part and ours are about a tenth of Node's", () => {
    const [base, runtime, programs] = image("node").layers.map(({ size }) => size / 1e6);
    expect(base).toBeLessThan(10);
    expect(programs).toBeLessThan(15);
    expect(runtime).toBeLessThan(150);
    expect(image("cni").layers.slice(0, 2)).toMatchObject(
      image("node")
        .layers.slice(0, 2)
        .map(({ sha256 }) => ({ sha256 })),
    );
  });
});

describe("without an engine: chroot into the layers", () => {
  let root: (name: ImageName) => string;

  beforeAll(async () => {
    for (const [name, { path }] of images) {
      const target = join(folder, "root", name);
      const unpacked = join(folder, "unpacked", name);
      for (const made of [target, unpacked]) mkdirSync(made, { recursive: true });
      expect(await run("tar", ["-C", unpacked, "-xf", path])).toMatchObject({ code: 0 });
      const [manifest] = JSON.parse(readFileSync(join(unpacked, "manifest.json"), "utf8")) as [{ Layers: string[] }];
      for (const layer of manifest.Layers) {
        expect(await run("tar", ["-C", target, "-xpf", join(unpacked, layer)])).toMatchObject({ code: 0 });
      }
    }
    root = (name) => join(folder, "root", name);
  });

  const inImage = (name: ImageName, command: readonly string[], env: Record<string, string> = {}): Promise<Output> =>
    run("chroot", [root(name), ...command], { env: { ...RECIPES[name].environment, ...env } });

  test("calico-node runs", async () => {
    const output = await inImage("node", ["calico-node", "version"]);
    expect(output).toMatchObject({ code: 0, stdout: expect.stringMatching(/^v\d+\.\d+\.\d+-calico-ts\./) as string });
  });

  test.each(["CALICO_AGENT_PROGRAM", "CALICO_BGP_PROGRAM"])(
    "what calico-node would start (%s) loads its native library and asks for its API server",
    async (variable) => {
      const program = RECIPES.node.environment[variable] ?? "";
      const output = await inImage("node", ["/usr/local/bin/node", program], { NODENAME: "node-1" });
      expect(output).toMatchObject({
        code: 2,
        stdout: expect.stringContaining("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set") as string,
      });
    },
  );

  test("calicoctl asks the node it is on", async () => {
    expect(await inImage("node", ["calicoctl", "node", "status"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Calico process is not running.") as string,
    });
  });

  test("kube-controllers asks for its API server, and its probe answers", async () => {
    expect(await inImage("kube-controllers", ["calico-kube-controllers"])).toMatchObject({
      code: 2,
      stdout: expect.stringContaining("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set") as string,
    });
    expect(await inImage("kube-controllers", ["check-status", "-r"])).toMatchObject({
      code: 1,
      stdout: expect.stringContaining("no status has been written yet") as string,
    });
  });

  test("install-cni installs", async () => {
    expect(await inImage("cni", ["install-cni"], CONFIG_VARIABLES)).toMatchObject({ code: 0 });
    await expectInstalled(join(root("cni"), "host"));
    expect(await inImage("cni", ["install-cni"], CONFIG_VARIABLES)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("/host/opt/cni/bin/calico is current") as string,
    });
  });

  test("there is no shell and no package manager, but certificates, licences and a list of packages", () => {
    for (const name of IMAGE_NAMES) {
      const files = (pattern: string): string[] => globSync(pattern, { cwd: root(name) }).toSorted();
      expect(files("{bin,sbin,usr/bin,usr/sbin}/*")).toEqual([]);
      expect(files("usr/local/bin/*")).toEqual(
        ["node", ...RECIPES[name].programs.map((program) => program.name)]
          .map((file) => `usr/local/bin/${file}`)
          .toSorted(),
      );
      expect(
        readFileSync(join(root(name), "etc/ssl/certs/ca-certificates.crt"), "utf8").split("BEGIN CERT").length,
      ).toBeGreaterThan(100);
      expect(files("var/lib/dpkg/status.d/*")).toContain("var/lib/dpkg/status.d/libc6");
      const licences = ["calico-ts/LICENSE", "nodejs/LICENSE", "libc6/copyright", "libstdc++6/copyright"];
      expect(licences.filter((part) => !existsSync(join(root(name), "usr/share/doc", part)))).toEqual([]);
    }
  });
});

describe.each(["docker", "podman"] as const)("in an engine: %s", (engineName) => {
  let engine: Engine | string;
  beforeAll(async () => {
    engine = await Engine.start(engineName);
  });
  afterAll(async () => {
    if (typeof engine !== "string") await engine[Symbol.asyncDispose]();
  });

  test("load, calico-node version, install-cni, and what the Dockerfile builds", async (context) => {
    if (typeof engine === "string") return context.skip(engine);
    const command = engine.run.bind(engine);
    for (const [name, { path, imageId }] of images) {
      const { reference, labels } = RECIPES[name];
      expect(await command("load", "--input", path)).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(new RegExp(`Loaded image: (docker.io/)?${reference}`)) as string,
      });
      const { stdout } = await command("image", "inspect", reference);
      const [inspected] = JSON.parse(stdout) as [{ Id: string; Config: { Labels: unknown } }];
      expect(inspected).toMatchObject({
        Id: expect.stringContaining(imageId.slice("sha256:".length)) as string,
        Config: { Labels: labels },
      });
    }
    // Without raising limits, which not every machine that runs tests may.
    const isolated = ["run", "--rm", "--network=none", "--cap-drop=ALL", "--read-only"];
    const limited = [...isolated, "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    const version = await command(...limited, RECIPES.node.reference, "calico-node", "version");
    expect(version).toMatchObject({ code: 0, stdout: expect.stringContaining("calico-ts") as string });

    const host = join(folder, `host-${engineName}`);
    mkdirSync(host);
    const variables = Object.entries(CONFIG_VARIABLES).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
    const mounted = [...limited, `--volume=${host}:/host`, ...variables];
    const installed = await command(...mounted, RECIPES.cni.reference, "install-cni");
    expect(installed).toMatchObject({ code: 0, stdout: expect.stringContaining("install-cni: done") as string });
    await expectInstalled(host);

    // The manifest's mounts are below /var/run, which is a link to /run as on any Debian.
    const state = [...limited, `--volume=${host}:/var/run/calico`, RECIPES.node.reference];
    const write = 'require("node:fs").writeFileSync("/run/calico/here", "")';
    expect(await command(...state, "node", "--eval", write)).toMatchObject({ code: 0 });
    expect(existsSync(join(host, "here"))).toBe(true);

    // No registry here: the image just loaded stands in for Debian's, and the Dockerfile puts the same over it.
    const dockerfile = join(import.meta.dirname, "../node/Dockerfile");
    const base = `BASE=docker.io/${RECIPES.node.reference}`;
    const laidOut = join(image("node").layout.runtime, "..");
    const build = ["build", "--file", dockerfile, "--build-arg", base, "--tag", "ct-from-dockerfile", laidOut];
    expect(await command(...build)).toMatchObject({ code: 0 });
    const rebuilt = await command(...limited, "ct-from-dockerfile", "calico-agent");
    expect(rebuilt).toMatchObject({ code: 2, stdout: expect.stringContaining("KUBERNETES_SERVICE_HOST") as string });
  });
});
