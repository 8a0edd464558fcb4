/**
 * What stands behind a container: a real program in the node's namespace, the pod's own command in the pod's namespace, or a stub.
 *
 * - program: a hostNetwork pod's container whose image matches a NodeProgram;
 * - process: a container with a `command` in a pod annotated `sim.calico-ts.io/run: "true"`; it gets no stub;
 * - stub: everything else. Its declared ports are answered (stub-server.ts). A stub that is meant to end (init containers, pods of
 *   Jobs, restartPolicy other than Always) ends at once with success.
 */
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { tryParseAddress } from "@calico-ts/net";
import { CalicoError, errorText } from "@calico-ts/std";
import type { ClusterNode } from "../cluster-port.ts";
import type { KubeClient } from "../kube/client.ts";
import { type Container, type Labels, type Node, type Pod, uidOf } from "../kube/objects.ts";
import { startLogged } from "../process.ts";
import type { ExecResult, NodeProgram, ProgramContext, RunningProgram } from "../program.ts";
import type { ConnectionLog } from "../stub/connection-log.ts";
import { openStub, type StubServer } from "../stub/stub-server.ts";
import { commandLine, type EnvironmentSources, referredSources, resolveEnvironment } from "./environment.ts";
import type { ServiceAccountFiles } from "./service-account.ts";

export const RUN_ANNOTATION = "sim.calico-ts.io/run";

export interface RunningBody {
  /** Only of programs and processes. */
  readonly pid?: number;
  readonly exited: Promise<number>;
  stop(graceMs: number): Promise<void>;
}

export interface BodyDeps {
  readonly run: string;
  readonly stateDir: string;
  readonly node: ClusterNode;
  readonly programs: readonly NodeProgram[];
  readonly client: KubeClient;
  readonly serviceAccounts: ServiceAccountFiles;
  readonly apiServer: { readonly host: string; readonly port: number };
  readonly nodeObject: () => Node | undefined;
}

/** Where a container runs, as far as its pod's worker knows. */
export interface ContainerPlace {
  readonly pod: Pod;
  readonly container: Container;
  readonly isInit: boolean;
  readonly netns: string;
  readonly hostIPs: readonly string[];
  readonly podIPs: readonly string[];
  readonly log: ConnectionLog;
}

export type BodyKind =
  | { readonly kind: "program"; readonly program: NodeProgram }
  | { readonly kind: "process" }
  | { readonly kind: "stub" };

export function bodyKind(pod: Pod, container: Container, programs: readonly NodeProgram[]): BodyKind {
  if (pod.spec.hostNetwork === true) {
    const program = programs.find((each) => each.image.test(container.image ?? ""));
    if (program !== undefined) return { kind: "program", program };
  }
  const asked = pod.metadata.annotations?.[RUN_ANNOTATION] === "true";
  return asked && (container.command ?? []).length > 0 ? { kind: "process" } : { kind: "stub" };
}

export const logFileOf = (deps: Pick<BodyDeps, "stateDir" | "node">, pod: Pod, container: string): string =>
  join(deps.stateDir, "logs", deps.node.name, `${pod.metadata.namespace ?? ""}_${pod.metadata.name}_${container}.log`);

/** @throws CalicoError BAD_INPUT for a configuration that cannot be resolved, others when the start itself fails. */
export async function startBody(deps: BodyDeps, place: ContainerPlace): Promise<RunningBody> {
  const kind = bodyKind(place.pod, place.container, deps.programs);
  if (kind.kind === "stub") return startStub(deps, place);
  const context = await programContext(deps, place);
  if (existsSync(context.logFile)) renameSync(context.logFile, `${context.logFile}.previous`);
  const running: RunningProgram =
    kind.kind === "program"
      ? await kind.program.start(context)
      : await startLogged(
          { netns: place.netns, run: deps.run, argv: context.command, env: context.env },
          context.logFile,
        );
  return running;
}

/** Runs an exec probe's command. Stubs have nothing to run it in: it counts as success. */
export async function execInBody(
  deps: BodyDeps,
  place: ContainerPlace,
  command: readonly string[],
  signal: AbortSignal,
): Promise<ExecResult> {
  const kind = bodyKind(place.pod, place.container, deps.programs);
  if (kind.kind !== "program") return { exitCode: 0, output: "" };
  return kind.program.exec({ ...(await programContext(deps, place)), command }, signal);
}

async function programContext(deps: BodyDeps, place: ContainerPlace): Promise<ProgramContext> {
  const { pod, container } = place;
  const { host, port } = deps.node.apiServer ?? deps.apiServer;
  const base: Labels = {
    KUBERNETES_SERVICE_HOST: host,
    KUBERNETES_SERVICE_PORT: String(port),
    KUBERNETES_SERVICE_PORT_HTTPS: String(port),
    HOSTNAME: pod.spec.hostNetwork === true ? deps.node.name : pod.metadata.name,
  };
  const resolved = resolveEnvironment(container, base, await sourcesFor(deps, place));
  if (!resolved.ok) throw new CalicoError("BAD_INPUT", resolved.message);
  const wantsToken = pod.spec.automountServiceAccountToken !== false;
  const serviceAccountDir = wantsToken ? await deps.serviceAccounts.directory(pod) : undefined;
  return {
    run: deps.run,
    node: deps.node.name,
    netns: place.netns,
    hostRoot: deps.node.hostRoot,
    namespace: pod.metadata.namespace ?? "",
    pod: pod.metadata.name,
    container: container.name,
    image: container.image ?? "",
    command: commandLine(container, resolved.env),
    env: resolved.env,
    logFile: logFileOf(deps, pod, container.name),
    ...(serviceAccountDir === undefined ? {} : { serviceAccountDir }),
  };
}

async function sourcesFor(deps: BodyDeps, place: ContainerPlace): Promise<EnvironmentSources> {
  const { pod, container, hostIPs, podIPs } = place;
  const { namespace } = pod.metadata;
  const names = referredSources(container);
  const fetch = async (kind: "ConfigMap" | "Secret", name: string): Promise<readonly [string, Labels | undefined]> => {
    try {
      const { data = {} } = await deps.client.get(kind, { namespace, name });
      return [name, kind === "ConfigMap" ? data : decoded(data)];
    } catch (error) {
      if (error instanceof CalicoError && error.code === "NOT_FOUND") return [name, undefined];
      throw error;
    }
  };
  const configMaps = new Map(await Promise.all(names.configMaps.map((name) => fetch("ConfigMap", name))));
  const secrets = new Map(await Promise.all(names.secrets.map((name) => fetch("Secret", name))));
  return {
    pod,
    node: deps.nodeObject(),
    hostIPs,
    podIPs,
    configMap: (name) => configMaps.get(name),
    secret: (name) => secrets.get(name),
  };
}

const decoded = (data: Labels): Labels =>
  Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]));

async function startStub(deps: BodyDeps, place: ContainerPlace): Promise<RunningBody> {
  const { pod, container, isInit } = place;
  const sidecar = isInit && container.restartPolicy === "Always";
  if (!sidecar && (isInit || endsByItself(pod))) return { exited: Promise.resolve(0), stop: () => Promise.resolve() };
  const servers: StubServer[] = [];
  const families = [...new Set(place.podIPs.map((ip) => tryParseAddress(ip)?.family ?? 4))];
  const seen = new Set<string>();
  try {
    for (const { containerPort: port, protocol = "TCP" } of container.ports ?? []) {
      if (protocol === "SCTP") {
        place.log.append(`port ${port}/SCTP is not served: no SCTP sockets here`);
        continue;
      }
      if (seen.has(`${protocol}/${port}`)) continue;
      seen.add(`${protocol}/${port}`);
      const name = `${pod.metadata.namespace ?? ""}/${pod.metadata.name}`;
      const { netns, log } = place;
      servers.push(await openStub({ netns, families, pod: name, node: deps.node.name, port, protocol, log }));
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw new CalicoError("UNAVAILABLE", `stub of container ${container.name}: ${errorText(error)}`, { cause: error });
  }
  const { promise, resolve } = Promise.withResolvers<number>();
  return {
    exited: promise,
    stop: () => {
      for (const server of servers.splice(0)) server.close();
      resolve(0);
      return Promise.resolve();
    },
  };
}

const endsByItself = (pod: Pod): boolean => (pod.spec.restartPolicy ?? "Always") !== "Always";

export const containerIdOf = (pod: Pod, container: string, attempt: number): string =>
  `sim://${uidOf(pod).replaceAll("-", "")}-${container}-${attempt}`;
