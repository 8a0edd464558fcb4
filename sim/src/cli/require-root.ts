import { CalicoError } from "@calico-ts/std";

/** Network namespaces, other namespaces' sockets and the state folder are root's. */
export function requireRoot(command: string): void {
  if (process.geteuid?.() === 0) return;
  throw new CalicoError(
    "NO_PERMISSION",
    `${command} needs root: it works with network namespaces. Run it again with sudo, or in a root shell`,
  );
}
