/**
 * What runs in a run, by command line, and what a user may rely on while one process of each kind is away. A table of data: `kill-each` computes
 * from it whether a promise was kept. The product's own rows come from whoever plugs the product in.
 */
import { DEFER_SECONDS } from "../routers/frr.ts";

export interface KillPromise {
  /** Longest time for which a flow between pods may stand still, in milliseconds. 0: no packet is lost. */
  readonly gapMs: number;
  readonly because: string;
}

export interface ProcessKind {
  readonly name: string;
  /** Matched against the words of the command line, joined by spaces. */
  readonly commandLine: RegExp;
  readonly promise: KillPromise;
  /** `at once`: somebody starts it again. `when needed`: with the next work for it. `never`: the run is over. */
  readonly comesBack: "at once" | "when needed" | "never";
}

const nothing = (because: string): KillPromise => ({ gapMs: 0, because });

/** Longer FRR does not wait for what neighbours have to tell, so all is told again by then. */
const FRR_DEFERS_MS = DEFER_SECONDS * 1000;

const RESTARTED =
  "neighbours keep forwarding while it is away (graceful restart, RFC 4724), and its own routes stay in the kernel until it has taken them over";

/** In the order in which they are killed. */
export const SIMULATOR_KINDS: readonly ProcessKind[] = [
  {
    name: "bird",
    commandLine: /^bird /,
    promise: nothing(`${RESTARTED}: \`persist\`, \`graceful restart on\`, started again with -R`),
    comesBack: "at once",
  },
  {
    name: "zebra",
    commandLine: /\/zebra /,
    promise: nothing("its routes stay in the kernel (-r), and it takes them over when it is back (-K)"),
    comesBack: "at once",
  },
  {
    name: "bgpd",
    commandLine: /\/bgpd /,
    promise: {
      gapMs: FRR_DEFERS_MS,
      because:
        "zebra of FRR 8 removes what bgpd has not told again before it has worked off what bgpd has just told, so routes of its router may be gone for a moment (later releases queue the removal)",
    },
    comesBack: "at once",
  },
  {
    name: "gobgpd",
    commandLine: /^gobgpd /,
    promise: nothing(
      "it only reflects: nodes keep the routes it told them while it is away (graceful restart, RFC 4724)",
    ),
    comesBack: "at once",
  },
  {
    name: "calico-speaker",
    commandLine: /calico-speaker\.mjs run /,
    promise: nothing(RESTARTED),
    comesBack: "at once",
  },
  {
    name: "shell",
    commandLine: /^\/bin\/sh $/,
    promise: nothing("it starts the kubelet's short commands (CNI plugins, probes); packets never meet it"),
    comesBack: "when needed",
  },
];

/** The daemon: API server, scheduler, controllers, kubelets, kube-proxies and stubs of the run. */
export const SIMULATOR: ProcessKind = {
  name: "simulator",
  commandLine: /\bdaemon \{/,
  promise: nothing(
    "control plane and kubelets are gone for good, and the run with them; what is in the kernels stays as it is until `down`",
  ),
  comesBack: "never",
};

/** What nobody has said anything about. */
export const OTHER: ProcessKind = {
  name: "other",
  commandLine: /^/,
  promise: nothing("no row of the table knows it, so it may cost nothing"),
  comesBack: "at once",
};

/** Whether the promise was kept. `hostDropped`: packets that this host threw away for want of CPU time, which no network did. */
export function isKept(
  promise: KillPromise,
  found: { readonly lost: number; readonly longestGapMs: number; readonly hostDropped: number },
): boolean {
  if (found.lost <= found.hostDropped) return true;
  return promise.gapMs > 0 && found.longestGapMs <= promise.gapMs;
}
