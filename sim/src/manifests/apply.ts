/**
 * Applies manifests the way a careful user would: server-side apply, namespaces and definitions first, policies before the
 * pods they are about.
 *
 * Harmless: a kind the server does not know (told, skipped) and a field it does not know (told, dropped). Not harmless: an
 * object the server refuses; that is the user's input and is told with file, line and field.
 */
import type { JsonObject } from "@calico-ts/schema";
import { isObject } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import type { Problem } from "../problems.ts";
import type { ApiAnswer, ApiConnection } from "./api-connection.ts";
import { answerText } from "./api-connection.ts";
import type { Manifest } from "./manifest-files.ts";
import { describeManifest } from "./manifest-files.ts";

export interface ApplyReport {
  readonly applied: number;
  /** Unknown kinds, unknown fields, deprecations. */
  readonly notes: readonly Problem[];
  /** Refusals. */
  readonly problems: readonly Problem[];
}

const FIELD_MANAGER = "calico-sim";
const PARALLELISM = 12;
const CRD_POLL_MS = 25;
const CRD_TIMEOUT_MS = 15_000;

/** Later phases may need what earlier ones made. */
const PHASES: readonly { readonly kinds: readonly string[]; readonly because: string }[] = [
  {
    kinds: ["Namespace", "CustomResourceDefinition"],
    because: "everything else lives in them or is described by them",
  },
  {
    kinds: [
      "ServiceAccount",
      "Role",
      "ClusterRole",
      "RoleBinding",
      "ClusterRoleBinding",
      "ConfigMap",
      "Secret",
      "PriorityClass",
      "StorageClass",
    ],
    because: "pods refer to them",
  },
  {
    kinds: [
      "NetworkPolicy",
      "GlobalNetworkPolicy",
      "Tier",
      "IPPool",
      "FelixConfiguration",
      "Service",
      "NetworkSet",
      "GlobalNetworkSet",
    ],
    because: "a pod should never run a moment without its policies and addresses",
  },
];

const phaseOf = (kind: string): number => {
  const index = PHASES.findIndex((phase) => phase.kinds.includes(kind));
  return index < 0 ? PHASES.length : index;
};

export interface ApplyOptions {
  readonly signal?: AbortSignal;
  /**
   * Ask what the server would say and change nothing. Only what is wrong with an object itself counts then (422): its
   * namespace or its kind may be made by the manifest before it.
   */
  readonly rehearse?: boolean;
}

/** @throws CalicoError UNAVAILABLE when the server stops answering. */
export async function applyManifests(
  api: ApiConnection,
  manifests: readonly Manifest[],
  options: ApplyOptions = {},
): Promise<ApplyReport> {
  const { signal, rehearse = false } = options;
  const discovery = new Discovery(api);
  const report = { applied: 0, notes: [] as Problem[], problems: [] as Problem[] };
  for (let phase = 0; phase <= PHASES.length; phase++) {
    const now = manifests.filter((manifest) => phaseOf(manifest.kind) === phase);
    await inParallel(now, async (manifest) => {
      if (signal?.aborted === true) throw new CalicoError("CANCELLED", "applying manifests was cancelled");
      await applyOne({ api, discovery, rehearse }, manifest, report);
    });
    const definitions = rehearse ? [] : now.filter((manifest) => manifest.kind === "CustomResourceDefinition");
    await inParallel(definitions, (manifest) => untilEstablished(api, manifest, report.problems));
    if (definitions.length > 0) discovery.forget();
  }
  return report;
}

interface OpenReport {
  applied: number;
  readonly notes: Problem[];
  readonly problems: Problem[];
}

interface ApplyWorld {
  readonly api: ApiConnection;
  readonly discovery: Discovery;
  readonly rehearse: boolean;
}

async function applyOne(world: ApplyWorld, manifest: Manifest, report: OpenReport): Promise<void> {
  const { api, discovery, rehearse } = world;
  const served = await discovery.find(manifest.apiVersion, manifest.kind);
  if (served === undefined) {
    report.notes.push(
      manifest.locate(
        "kind",
        `${manifest.apiVersion} ${manifest.kind} ${manifest.name}: the API server knows no such kind; skipped`,
      ),
    );
    return;
  }
  const collection = collectionPath(manifest, served);
  const path = `${collection}/${encodeURIComponent(manifest.name)}`;
  let answer = await api.send({
    method: "PATCH",
    path: `${path}?fieldManager=${FIELD_MANAGER}&force=true&fieldValidation=Warn${rehearse ? "&dryRun=All" : ""}`,
    body: manifest.object,
    contentType: "application/apply-patch+yaml",
  });
  if (rehearse) {
    if (answer.status === 422) report.problems.push(...refusals(manifest, answer));
    return;
  }
  // A real server refuses unknown fields of built-in kinds in server-side apply; the older verbs drop them with a warning.
  if (answer.status >= 400 && answerText(answer).includes("field not declared in schema")) {
    answer = await createOrMerge(api, collection, path, manifest.object);
  }
  for (const warning of answer.warnings) report.notes.push(noteOf(manifest, warning));
  if (answer.status < 300) report.applied++;
  else report.problems.push(...refusals(manifest, answer));
}

async function createOrMerge(
  api: ApiConnection,
  collection: string,
  path: string,
  object: JsonObject,
): Promise<ApiAnswer> {
  const query = `fieldManager=${FIELD_MANAGER}&fieldValidation=Warn`;
  const created = await api.send({ method: "POST", path: `${collection}?${query}`, body: object });
  if (created.status !== 409) return created;
  return api.send({
    method: "PATCH",
    path: `${path}?${query}`,
    body: object,
    contentType: "application/merge-patch+json",
  });
}

function collectionPath(manifest: Manifest, served: ServedKind): string {
  const base = manifest.apiVersion.includes("/") ? `/apis/${manifest.apiVersion}` : `/api/${manifest.apiVersion}`;
  if (!served.namespaced) return `${base}/${served.plural}`;
  return `${base}/namespaces/${encodeURIComponent(manifest.namespace ?? "default")}/${served.plural}`;
}

function noteOf(manifest: Manifest, warning: string): Problem {
  const field = /unknown field "([^"]+)"/.exec(warning)?.[1];
  if (field === undefined) return manifest.locate(undefined, `${describeManifest(manifest)}: ${warning}`);
  return manifest.locate(field, `unknown field in this ${manifest.kind}; ignored`);
}

function refusals(manifest: Manifest, answer: ApiAnswer): Problem[] {
  const details = isObject(answer.body) ? answer.body["details"] : undefined;
  const causes = isObject(details) && Array.isArray(details["causes"]) ? (details["causes"] as unknown[]) : [];
  const found = causes.flatMap((cause) => {
    if (!isObject(cause)) return [];
    const field = typeof cause["field"] === "string" ? cause["field"] : undefined;
    const message = typeof cause["message"] === "string" ? cause["message"] : answerText(answer);
    return [manifest.locate(field, message)];
  });
  return found.length > 0
    ? found
    : [manifest.locate(undefined, `${describeManifest(manifest)}: ${answerText(answer)}`)];
}

async function untilEstablished(api: ApiConnection, manifest: Manifest, problems: Problem[]): Promise<void> {
  const path = `/apis/${manifest.apiVersion}/customresourcedefinitions/${encodeURIComponent(manifest.name)}`;
  const giveUpAt = performance.now() + CRD_TIMEOUT_MS;
  for (;;) {
    const { status, body } = await api.send({ method: "GET", path });
    if (status === 404) return; // refused before; already told
    if (isEstablished(body)) return;
    if (performance.now() > giveUpAt) {
      problems.push(
        manifest.locate(
          "metadata.name",
          `${describeManifest(manifest)} was not established within ${CRD_TIMEOUT_MS / 1000} s`,
        ),
      );
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, CRD_POLL_MS));
  }
}

function isEstablished(body: unknown): boolean {
  const status = isObject(body) ? body["status"] : undefined;
  const conditions = isObject(status) ? status["conditions"] : undefined;
  if (!Array.isArray(conditions)) return false;
  return (conditions as unknown[]).some(
    (condition) => isObject(condition) && condition["type"] === "Established" && condition["status"] === "True",
  );
}

interface ServedKind {
  readonly plural: string;
  readonly namespaced: boolean;
}

/** Which kinds the server serves under which path, asked once per group and version. */
class Discovery {
  readonly #api: ApiConnection;
  readonly #known = new Map<string, Promise<ReadonlyMap<string, ServedKind>>>();

  constructor(api: ApiConnection) {
    this.#api = api;
  }

  async find(apiVersion: string, kind: string): Promise<ServedKind | undefined> {
    let kinds = this.#known.get(apiVersion);
    if (kinds === undefined) {
      kinds = this.#ask(apiVersion);
      this.#known.set(apiVersion, kinds);
    }
    return (await kinds).get(kind);
  }

  forget(): void {
    this.#known.clear();
  }

  async #ask(apiVersion: string): Promise<ReadonlyMap<string, ServedKind>> {
    const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const answer = await this.#api.send({ method: "GET", path: encodeURI(path) });
    const kinds = new Map<string, ServedKind>();
    if (answer.status === 404) return kinds;
    if (answer.status >= 300) throw new CalicoError("UNAVAILABLE", `GET ${path}: ${answerText(answer)}`);
    const resources =
      isObject(answer.body) && Array.isArray(answer.body["resources"]) ? (answer.body["resources"] as unknown[]) : [];
    for (const resource of resources) {
      if (!isObject(resource)) continue;
      const { name, kind, namespaced } = resource;
      if (typeof name !== "string" || typeof kind !== "string" || name.includes("/")) continue;
      kinds.set(kind, { plural: name, namespaced: namespaced === true });
    }
    return kinds;
  }
}

async function inParallel<T>(items: readonly T[], each: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) await each(item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLELISM, items.length) }, worker));
}
