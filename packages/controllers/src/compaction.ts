/** etcd keeps every revision until told otherwise; kube-controllers tells it, as upstream does: what is older than one period is forgotten. */
import type { EtcdDatastore } from "@calico-ts/datastore";
import type { Clock, Logger } from "@calico-ts/runtime";

export async function keepCompact(
  client: EtcdDatastore,
  options: { readonly clock: Clock; readonly log: Logger; readonly periodMs: number },
  signal: AbortSignal,
): Promise<void> {
  const { clock, log, periodMs } = options;
  if (periodMs <= 0) return;
  let before: string | undefined;
  while (!signal.aborted) {
    try {
      const now = await client.revision();
      if (before !== undefined && before !== now) await client.compact(before);
      before = now;
    } catch (error) {
      log.warning("etcd.compaction_failed", { error });
    }
    await clock.sleep(periodMs, signal).catch(() => undefined);
  }
}
