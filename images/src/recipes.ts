/**
 * START HERE: what is in each image, as data. The Dockerfiles beside this say the same of environment, command and labels for those who build
 * with an engine; a test keeps them equal.
 *
 * An image is three layers, least changing first, so that a node pulls the first two once for all images:
 *   base      Debian's C and C++ libraries and root certificates (base.ts), no shell, no package manager
 *   runtime   Node
 *   programs  the bundles, and koffi with its native part, which bundles cannot hold
 */

export const IMAGE_NAMES = ["node", "cni", "kube-controllers"] as const;
export type ImageName = (typeof IMAGE_NAMES)[number];

/** The tag of every image; scripts/manifests.ts writes the same. */
export const VERSION = "v0.1.0";

/** Where the programs are, in every image. Modules are found beside it: koffi in its node_modules. */
export const PROGRAM_FOLDER = "/opt/calico-ts/bin";

export interface Program {
  /** The command, on PATH. */
  readonly name: string;
  /** What scripts/build.ts makes; the program itself and what it split off lie beside it as `<name>-….mjs`. */
  readonly bundle: string;
}

export interface Recipe {
  readonly name: ImageName;
  readonly reference: string;
  readonly programs: readonly Program[];
  /** Executables for the host, by their place in the image. */
  readonly executables: Readonly<Record<string, string>>;
  readonly needsKoffi: boolean;
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

const ENVIRONMENT = {
  HOME: "/root",
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
} as const;

const labels = (title: string, description: string): Recipe["labels"] => ({
  "org.opencontainers.image.title": title,
  "org.opencontainers.image.description": description,
  "org.opencontainers.image.version": VERSION,
  "org.opencontainers.image.licenses": "Apache-2.0",
});

export const RECIPES: Readonly<Record<ImageName, Recipe>> = {
  node: {
    name: "node",
    reference: `calico-ts/node:${VERSION}`,
    programs: [
      { name: "calico-node", bundle: "packages/node/dist/bin/calico-node.mjs" },
      { name: "calico-agent", bundle: "packages/agent/dist/bin/calico-agent.mjs" },
      { name: "calico-bgp", bundle: "packages/bgp-daemon/dist/bin/calico-bgp.mjs" },
      // `kubectl exec -n kube-system calico-node-… -- calicoctl node status`: what it asks is on the node, and only root's.
      { name: "calicoctl", bundle: "packages/cli/dist/bin/calicoctl.mjs" },
    ],
    executables: {},
    needsKoffi: true,
    environment: {
      ...ENVIRONMENT,
      CALICO_AGENT_PROGRAM: `${PROGRAM_FOLDER}/calico-agent.mjs`,
      CALICO_BGP_PROGRAM: `${PROGRAM_FOLDER}/calico-bgp.mjs`,
      // Probes start a process every few seconds: compiled code is kept from one to the next. Without a writable layer Node does without.
      NODE_COMPILE_CACHE: "/var/cache/calico-ts",
    },
    command: ["calico-node"],
    labels: labels(
      "calico-ts node",
      "calico-node, its agent and its BGP daemon: makes a Kubernetes node a Calico node",
    ),
  },
  cni: {
    name: "cni",
    reference: `calico-ts/cni:${VERSION}`,
    programs: [{ name: "install-cni", bundle: "packages/cni/dist/bin/install-cni.mjs" }],
    executables: {
      "/opt/calico-ts/cni/calico": "packages/cni/dist/bin/calico",
      "/opt/calico-ts/cni/calico-ipam": "packages/cni/dist/bin/calico-ipam",
    },
    needsKoffi: false,
    environment: { ...ENVIRONMENT, CALICO_CNI_SOURCE: "/opt/calico-ts/cni" },
    command: ["install-cni"],
    labels: labels("calico-ts cni", "Installs the CNI executables and network configuration on a node"),
  },
  "kube-controllers": {
    name: "kube-controllers",
    reference: `calico-ts/kube-controllers:${VERSION}`,
    programs: [
      { name: "calico-kube-controllers", bundle: "packages/controllers/dist/bin/calico-kube-controllers.mjs" },
      { name: "check-status", bundle: "packages/controllers/dist/bin/check-status.mjs" },
    ],
    executables: {},
    needsKoffi: false,
    environment: ENVIRONMENT,
    command: ["calico-kube-controllers"],
    labels: labels(
      "calico-ts kube-controllers",
      "Once per cluster: collects addresses and blocks that nobody uses any more",
    ),
  },
};
