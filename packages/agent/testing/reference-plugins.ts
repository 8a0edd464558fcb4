/** The reference plugins (Debian's `containernetworking-plugins`), started on the node as a runtime there would. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { CNI_FOLDER, type CniAnswer } from "./cni-node.ts";

export const REFERENCE = "/usr/lib/cni";

export interface CniResult {
  readonly cniVersion: string;
  readonly ips: readonly { readonly address: string; readonly interface?: number }[];
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[];
}

export interface ReferenceCall {
  readonly command: string;
  readonly containerId: string;
  /** Path of the pod's network namespace. */
  readonly netns: string;
  readonly config: object;
}

/** `nodeNetns`: path of the namespace the plugin runs in. */
export function runReference(nodeNetns: string, type: string, call: ReferenceCall): Promise<CniAnswer> {
  const child = spawn("nsenter", [`--net=${nodeNetns}`, join(REFERENCE, type)], {
    env: {
      CNI_COMMAND: call.command,
      CNI_CONTAINERID: call.containerId,
      CNI_NETNS: call.netns,
      CNI_IFNAME: "eth0",
      CNI_PATH: `${CNI_FOLDER}:${REFERENCE}`,
      PATH: process.env["PATH"] ?? "",
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.stdin.on("error", () => undefined);
  child.stdin.end(JSON.stringify({ cniVersion: "1.0.0", name: "net", type, ...call.config }));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}
