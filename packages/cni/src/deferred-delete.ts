/**
 * DELs that came while no agent was running.
 *
 * The request is left beside the agent's socket as a file; the agent performs it when it starts. Writing is atomic and one file per
 * container and interface, so a repeated DEL changes nothing. The folder outlives the agent but not a reboot, which is right: after a
 * reboot the namespace is gone and address garbage collection returns the address.
 */
import { CniError } from "./cni-error.ts";
import type { CniRequest } from "./request.ts";
import { socketPath } from "./request.ts";

/** Beside the socket. The agent reads it at start. */
export const DEFERRED_FOLDER = "cni-deferred";

/** @throws CniError 11 when it cannot be written down: the runtime then tries again */
export async function deferDelete(request: CniRequest): Promise<void> {
  // Not above: what is imported there is loaded at each pod's start.
  const [{ mkdirSync, renameSync, rmSync, writeFileSync }, path] = await Promise.all([
    import("node:fs"),
    import("node:path"),
  ]);
  const removeIfThere = (file: string): void => {
    try {
      rmSync(file, { force: true });
    } catch {
      // a folder that takes no change has none of it
    }
  };
  const folder = path.join(path.dirname(socketPath(request.config)), DEFERRED_FOLDER);
  const name = `${request.containerId}-${request.ifName}.json`;
  const partial = path.join(folder, `.${name}.partial`);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(partial, JSON.stringify(request), { mode: 0o600 });
    renameSync(partial, path.join(folder, name));
  } catch (error) {
    removeIfThere(partial);
    const message = `the calico agent is not running, and the DEL cannot be noted in ${folder} for it to do later: start calico-node on this node, or give that folder space and leave to write`;
    throw new CniError(11, message, { details: error instanceof Error ? error.message : "" });
  }
}
