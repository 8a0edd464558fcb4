/**
 * `ipam release`: one address, or the leaks of a report. A report is refused when the datastore was open while it was made or has been opened since (the
 * revision of ClusterInformation tells), unless `--force` says otherwise. Even then an address goes back only if it is still the assignment the report saw.
 */
import { Ipam } from "@calico-ts/ipam";
import { formatAddress, parseAddress, tryParseAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { Session } from "./session.ts";
import { type CheckReport, clusterState } from "./check.ts";

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
    await releaseReports(session, ipam, options.fromReport, options.force === true);
  else throw new CalicoError("BAD_INPUT", "say what to release: --ip=ADDRESS or --from-report=FILE");
}

async function releaseOne({ out }: Session, ipam: Ipam, text: string): Promise<void> {
  const address = parseAddress(text);
  const { released } = await ipam.releaseAddresses([{ address }]);
  if (released.length === 0) throw new CalicoError("NOT_FOUND", `IP address ${formatAddress(address)} is not assigned`);
  out(`Successfully released IP address ${formatAddress(address)}\n`);
}

async function releaseReports(session: Session, ipam: Ipam, files: readonly string[], force: boolean): Promise<void> {
  const { out } = session;
  const reports = files.map((file) => readReport(session, file));
  const now = await clusterState(session);
  for (const [at, report] of reports.entries()) {
    const stale = report.datastoreReady
      ? "was made while the datastore was not locked (calicoctl datastore migrate lock)"
      : report.clusterInformationRevision !== now.clusterInformationRevision
        ? "is of an earlier state of the cluster: the datastore has been unlocked since"
        : undefined;
    if (stale !== undefined && !force) {
      throw new CalicoError("CONFLICT", `the report ${files[at] ?? ""} ${stale}. Make a new one, or use --force`);
    }
  }
  // Only what every report calls a leak.
  const [first, ...others] = reports;
  const inAll = (first?.leaked ?? []).filter(({ address, handle }) =>
    others.every(({ leaked }) => leaked.some((other) => other.address === address && other.handle === handle)),
  );
  const wanted = inAll.flatMap(({ address: text, handle, sequenceNumber, blockUid, condition }) => {
    const address = tryParseAddress(text);
    return address === undefined ? [] : [{ address, handle, sequenceNumber, blockUid, condition }];
  });
  const { released, stale, notAssigned } = await ipam.releaseAddresses(wanted);
  for (const { address, why } of stale) out(`Kept ${formatAddress(address)}: ${why}\n`);
  for (const address of notAssigned) out(`${formatAddress(address)} was free already\n`);
  out(`Released ${released.length} IPs successfully; ${stale.length} kept\n`);
}

function readReport({ readFile }: Session, file: string): CheckReport {
  try {
    const report = JSON.parse(readFile(file)) as Partial<CheckReport>;
    if (report.version === 1 && Array.isArray(report.leaked)) return report as CheckReport;
  } catch (error) {
    throw new CalicoError("BAD_INPUT", `the report ${file} cannot be read`, { cause: error });
  }
  throw new CalicoError("BAD_INPUT", `${file} is not a report of "ipam check -o" of this version`);
}
