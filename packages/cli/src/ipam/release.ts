/**
 * `ipam release`: one address, or what reports call leaks. Reports must be of this cluster, one of them of its present state, and the datastore locked; `--force`
 * overrides the last two. Even then an address goes back only if it is still the assignment the report saw, and a handle only if its record is unchanged.
 */
import { type AddressRelease, DatastoreSource, Ipam, podKey } from "@calico-ts/ipam";
import { formatAddress, type IpAddress, tryParseAddress } from "@calico-ts/net";
import { CalicoError, hasCode } from "@calico-ts/std";
import {
  type CheckReport,
  clusterState,
  readReport,
  REPORT_VERSION,
  type ReportedAllocation,
  type ReportedHandle,
} from "./check-report.ts";
import { addressArgument, type Session } from "./session.ts";

export interface ReleaseOptions {
  readonly ip?: string;
  readonly fromReport?: readonly string[];
  readonly force?: boolean;
}

export async function release(session: Session, options: ReleaseOptions): Promise<void> {
  const ipam = new Ipam({ client: session.client, clock: session.clock });
  if (options.ip !== undefined && options.fromReport !== undefined) {
    throw new CalicoError("BAD_INPUT", "give either --ip or --from-report, not both");
  }
  if (options.ip !== undefined) await releaseOne(session, ipam, options.ip);
  else if (options.fromReport !== undefined)
    await releaseReports(session, ipam, { files: options.fromReport, force: options.force === true });
  else throw new CalicoError("BAD_INPUT", "say what to release: --ip=ADDRESS or --from-report=FILE");
}

async function releaseOne(session: Session, ipam: Ipam, text: string): Promise<void> {
  const { out } = session;
  const address = addressArgument(text);
  const user = await userOf(session, ipam, address);
  const { released } = await ipam.releaseAddresses([{ address }]);
  if (released.length === 0) throw new CalicoError("NOT_FOUND", `IP address ${formatAddress(address)} is not assigned`);
  out(`Successfully released IP address ${formatAddress(address)}\n`);
  if (user !== undefined) out(`WARNING: pod ${user} still uses it, and another pod may get it now: delete that pod\n`);
}

/** The pod that it was given to, if that is there and says so. */
async function userOf({ client }: Session, ipam: Ipam, address: IpAddress): Promise<string | undefined> {
  const { namespace = "", pod: name = "" } = (await ipam.factsOf(address))?.attributes ?? {};
  if (name === "" || namespace === "") return undefined;
  const pod = await new DatastoreSource(client).pod(namespace, name);
  return pod?.finished === false && pod.addresses.has(formatAddress(address)) ? podKey(namespace, name) : undefined;
}

async function releaseReports(
  session: Session,
  ipam: Ipam,
  { files, force }: { readonly files: readonly string[]; readonly force: boolean },
): Promise<void> {
  const reports = files.map((file) => ({ file, report: readReport(session, file) }));
  await checkReports(session, reports, force);
  await releaseLeaks(
    session,
    ipam,
    inAll(
      reports.map(({ report }) => leaksOf(report)),
      sameAllocation,
    ),
  );
  await deleteHandles(
    session,
    inAll(
      reports.map(({ report }) => report.leakedHandles ?? []),
      sameHandle,
    ),
  );
  session.out("You may now unlock the data store.\n");
}

async function checkReports(
  session: Session,
  reports: readonly { readonly file: string; readonly report: CheckReport }[],
  force: boolean,
): Promise<void> {
  const now = await clusterState(session);
  const refuse = (why: string): void => {
    if (!force) throw new CalicoError("CONFLICT", why);
    session.out(`WARNING: ${why}. Ignoring due to --force option\n`);
  };
  for (const { file, report } of reports) {
    if (report.clusterGUID !== now.clusterGUID) {
      throw new CalicoError(
        "CONFLICT",
        `cluster does not match the provided report (${file}): mismatched cluster GUID. Refusing to release`,
      );
    }
    if (report.version !== REPORT_VERSION)
      refuse(`the provided report (${file}) was produced using a different version (${report.version}) of calicoctl`);
  }
  if (!now.datastoreLocked)
    refuse(
      "data store is not locked. Either lock the data store (calicoctl datastore migrate lock), or re-run with --force",
    );
  if (!reports.some(({ report }) => report.clusterInformationRevision === now.clusterInformationRevision))
    refuse(
      "the provided reports are all stale - at least one should be up-to-date. Please generate a new report while the data store is locked and try again",
    );
}

const leaksOf = ({ allocations }: CheckReport): ReportedAllocation[] =>
  Object.values(allocations)
    .flat()
    .filter(({ coolingDown, inUse }) => !inUse && coolingDown !== true);

/** What the last of the lists has and every other one has too. */
function inAll<T>(lists: readonly (readonly T[])[], isSame: (a: T, b: T) => boolean): T[] {
  const last = lists.at(-1) ?? [];
  const others = lists.slice(0, -1);
  return last.filter((one) => others.every((list) => list.some((other) => isSame(one, other))));
}

const sameAllocation = (a: ReportedAllocation, b: ReportedAllocation): boolean =>
  a.ip === b.ip && a.handle === b.handle && a.sequenceNumber === b.sequenceNumber && a.blockUid === b.blockUid;

const sameHandle = (a: ReportedHandle, b: ReportedHandle): boolean =>
  a.ID === b.ID && a.UID === b.UID && a.Revision === b.Revision;

async function releaseLeaks({ out }: Session, ipam: Ipam, leaks: readonly ReportedAllocation[]): Promise<void> {
  const wanted = leaks.flatMap(({ blockUid, condition, handle, ip, sequenceNumber }): AddressRelease[] => {
    const address = tryParseAddress(ip);
    return address === undefined ? [] : [{ address, handle, sequenceNumber, blockUid, condition }];
  });
  if (wanted.length === 0) {
    out("Report didn't contain any leaked IPs to clean up.\n");
    return;
  }
  out(`Releasing ${wanted.length} old IPs...\n`);
  const { notAssigned, released, stale } = await ipam.releaseAddresses(wanted);
  for (const { address, why } of stale) out(`Kept ${formatAddress(address)}: ${why}\n`);
  out(`Released ${released.length} IPs successfully\n`);
  if (notAssigned.length > 0)
    out(`${notAssigned.length} addresses marked as leaked in the report had already been cleaned up.\n`);
}

async function deleteHandles({ client, out }: Session, leaked: readonly ReportedHandle[]): Promise<void> {
  if (leaked.length === 0) {
    out("Report didn't contain any handles to clean up.\n");
    return;
  }
  out(`Deleting ${leaked.length} handles...\n`);
  const records = new Map((await client.list("IPAMHandle")).items.map((record) => [record.spec.handleID, record]));
  let released = 0;
  for (const { ID, Revision, UID } of leaked) {
    const { name, resourceVersion, uid } = records.get(ID)?.metadata ?? { name: "" };
    if (resourceVersion !== Revision || (uid ?? null) !== UID) continue;
    try {
      await client.delete("IPAMHandle", { name }, { uid, resourceVersion });
      released++;
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND") && !hasCode(error, "CONFLICT")) throw error;
    }
  }
  out(`Released ${released} handles; ${leaked.length - released} skipped; 0 errors.\n`);
}
