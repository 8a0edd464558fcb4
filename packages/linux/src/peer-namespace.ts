/** Where the other end of a veth is: the namespace of a pod whose interface on the node is known. */
import { readdirSync } from "node:fs";
import type { Link } from "@calico-ts/netlink";
import type { Kernel } from "./kernel.ts";
import { listNamespaces, namespaceInode, namespacePath } from "./namespace.ts";

/**
 * A path of the namespace: one with a name, or that of a process in it. Undefined: the link has no such end, or the namespace has
 * neither a name nor a process that we may see.
 */
export function peerNamespace(kernel: Kernel, link: Link): string | undefined {
  const wanted = link.linkNamespace;
  if (wanted === undefined) return undefined;
  const seen = new Set<string>();
  for (const path of candidates()) {
    try {
      const inode = namespaceInode(path);
      if (seen.has(inode)) continue;
      seen.add(inode);
      if (kernel.namespaceIdOf(path) === wanted) return path;
    } catch {
      // The namespace or the process is gone, or not ours to look at.
    }
  }
  return undefined;
}

function* candidates(): Iterable<string> {
  for (const name of listNamespaces()) yield namespacePath(name);
  for (const entry of readdirSync("/proc")) if (/^\d+$/.test(entry)) yield `/proc/${entry}/ns/net`;
}
