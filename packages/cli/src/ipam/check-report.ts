/** The report of `ipam check -o`: upstream's fields, and some of ours that it passes over. `ipam release --from-report` works from it. */
import type { OwnerCondition } from "@calico-ts/ipam";
import { isObject } from "@calico-ts/schema";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { Session } from "./session.ts";

/** Reports of another version are refused: what counts as a leak may have changed. */
export const REPORT_VERSION = "calico-ts/2";

export interface ReportedAllocation {
  readonly ip: string;
  readonly handle?: string | undefined;
  readonly sequenceNumber: number;
  readonly pod?: string | undefined;
  readonly namespace?: string | undefined;
  readonly node?: string | undefined;
  readonly type?: string | undefined;
  readonly creationTimestamp?: string | undefined;
  readonly inUse: boolean;
  readonly borrowed?: boolean | undefined;
  readonly coolingDown?: boolean | undefined;
  /** Who uses it. */
  readonly owners: readonly string[];
  /** Ours: the uid of its block; why nobody uses it; and for a virtual machine's, the owners it was seen with. */
  readonly blockUid?: string | undefined;
  readonly because?: string | undefined;
  readonly condition?: OwnerCondition | undefined;
}

export interface ReportedHandle {
  readonly ID: string;
  readonly UID: string | null;
  readonly Revision: string;
}

export interface ClusterState {
  readonly clusterGUID: string;
  readonly datastoreLocked: boolean;
  readonly clusterInformationRevision: string;
  readonly clusterType: string;
}

export interface CheckReport extends ClusterState {
  readonly version: string;
  readonly allocations: Readonly<Record<string, readonly ReportedAllocation[]>>;
  readonly leakedHandles?: readonly ReportedHandle[];
}

/** What tells whether a report still describes this datastore. */
export async function clusterState({ client }: Pick<Session, "client">): Promise<ClusterState> {
  try {
    const { metadata, spec } = await client.get("ClusterInformation", { name: "default" });
    return {
      clusterGUID: spec.clusterGUID ?? "",
      datastoreLocked: spec.datastoreReady === false,
      clusterInformationRevision: metadata.resourceVersion ?? "",
      clusterType: spec.clusterType ?? "",
    };
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    return { clusterGUID: "", datastoreLocked: false, clusterInformationRevision: "", clusterType: "" };
  }
}

/** @throws CalicoError BAD_INPUT when the file is not there or holds something else */
export function readReport({ readFile }: Session, file: string): CheckReport {
  let report: unknown;
  try {
    report = JSON.parse(readFile(file));
  } catch (error) {
    throw new CalicoError("BAD_INPUT", `the report ${file} cannot be read`, { cause: error });
  }
  if (isObject(report) && typeof report["version"] === "string" && isObject(report["allocations"]))
    return report as unknown as CheckReport;
  throw new CalicoError("BAD_INPUT", `${file} is not a report of "ipam check -o"`);
}
