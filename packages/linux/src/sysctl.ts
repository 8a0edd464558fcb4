/**
 * Sysctls of a network namespace: files under /proc/sys/net, which show the namespace of the thread that opens them.
 * Everything outside `net` belongs to the whole machine and is refused.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { ErrorCode } from "@calico-ts/std";
import type { Sysctl } from "./kernel.ts";
import { inNamespace } from "./namespace.ts";

/** `net.ipv4.ip_forward`, or with slashes when a part has dots: `net/ipv4/conf/eth0.100/rp_filter`. */
function pathOf(key: string): string {
  const parts = key.includes("/") ? key.split("/") : key.split(".");
  if (parts[0] !== "net" || parts.length < 2 || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new CalicoError("BAD_INPUT", `not a network sysctl: "${key}" (expected something like net.ipv4.ip_forward)`);
  }
  return `/proc/sys/${parts.join("/")}`;
}

export const sysctlOf = (netns: number): Sysctl => ({
  get(key) {
    const path = pathOf(key);
    try {
      return inNamespace(netns, () => readFileSync(path, "utf8")).trim();
    } catch (error) {
      if (hasCode(error, "ENOENT" as ErrorCode)) return undefined;
      throw error;
    }
  },
  set(key, value) {
    const path = pathOf(key);
    try {
      inNamespace(netns, () => writeFileSync(path, `${value}\n`));
    } catch (error) {
      if (error instanceof CalicoError) throw error;
      const { errno = 0, code = "EIO" } = error as NodeJS.ErrnoException;
      throw new CalicoError("KERNEL", `set sysctl ${key} to "${value}": the kernel answered ${code}`, {
        cause: error,
        detail: { errno: Math.abs(errno), errnoName: code, operation: `set sysctl ${key}` },
      });
    }
  },
});
