/**
 * Reads expectations and turns them into probes with an expected verdict each.
 *
 * Two steps, because the second needs the cluster: `readExpectations` checks the file alone (problems by line), and
 * `expandExpectations` lays it over the pods there are.
 */
import type { JsonSchema } from "@calico-ts/schema";
import type { FieldPath } from "../problems.ts";
import { problemsError } from "../problems.ts";
import type { ProbeProtocol, ProbeRequest } from "../probe/probe-request.ts";
import { PROBE_PROTOCOLS } from "../probe/probe-request.ts";
import type { YamlInput } from "../yaml-input.ts";
import { readYamlInput, schemaProblems } from "../yaml-input.ts";
import type { ExpectationsFile } from "./expectations-schema.ts";
import { expectationsSchema } from "./expectations-schema.ts";

export type Expected = "allowed" | "denied";

export interface Expectations {
  readonly flows: readonly ExpectedFlow[];
  readonly matrix: ExpectedMatrix | undefined;
}

export interface ExpectedFlow extends ProbeRequest {
  readonly expect: Expected;
  readonly because?: string;
  /** `file:line` of the statement. */
  readonly source: string;
}

export interface ExpectedMatrix {
  readonly namespaces: readonly string[];
  readonly otherwise: Expected;
  readonly exceptions: readonly MatrixException[];
  readonly source: string;
}

export interface MatrixException {
  readonly expect: Expected;
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: ProbeProtocol;
  readonly source: string;
}

/** @throws CalicoError BAD_INPUT with every problem on a line of its own. */
export function readExpectations(file: string): Expectations {
  const input = readYamlInput(file, "list of expectations");
  // A bare list is a list of flows.
  const bare = Array.isArray(input.value);
  const value = bare ? { flows: input.value } : input.value;
  const at = (path: FieldPath): FieldPath => (bare && path[0] === "flows" ? path.slice(1) : path);
  const shifted: YamlInput = { value, problem: (path, message) => input.problem(at(path), message) };
  const wrong = schemaProblems(shifted, expectationsSchema as unknown as JsonSchema);
  if (wrong.length > 0) throw problemsError(wrong);
  const written = value as ExpectationsFile; // the schema just said so
  const problems = [...flowProblems(written, shifted), ...matrixProblems(written, shifted)];
  if (problems.length > 0) throw problemsError(problems);
  return { flows: readFlows(written, shifted), matrix: readMatrix(written, shifted) };
}

const asList = (value: string | string[]): string[] => (typeof value === "string" ? [value] : value);

function lineOf(input: YamlInput, path: FieldPath): string {
  const { file, line } = input.problem(path, "");
  return `${file}:${line ?? 1}`;
}

function flowProblems(file: ExpectationsFile, input: YamlInput) {
  const problems = [];
  if (file.flows === undefined && file.matrix === undefined)
    problems.push(input.problem([], "expects nothing; write flows or a matrix"));
  for (const [index, flow] of (file.flows ?? []).entries()) {
    const path = ["flows", index];
    if (flow.port === undefined && flow.protocol !== "icmp")
      problems.push(input.problem(path, "needs a port (only icmp has none)"));
    for (const name of asList(flow.from)) {
      if (!isPodName(name))
        problems.push(input.problem([...path, "from"], `${JSON.stringify(name)}: write NAMESPACE/POD`));
    }
  }
  return problems;
}

const isPodName = (text: string): boolean => /^[^/\s:]+(\/[^/\s:]+)?$/.test(text);

function readFlows(file: ExpectationsFile, input: YamlInput): ExpectedFlow[] {
  return (file.flows ?? []).flatMap((flow, index) =>
    asList(flow.from).flatMap((from) =>
      asList(flow.to).map((to) => ({
        from,
        to,
        port: flow.port ?? 0,
        protocol: flow.protocol ?? "tcp",
        ...(flow.family === undefined ? {} : { family: flow.family }),
        expect: flow.expect,
        ...(flow.because === undefined ? {} : { because: flow.because }),
        source: lineOf(input, ["flows", index]),
      })),
    ),
  );
}

const DESTINATION = /^(\*|[^/\s:]+\/(?:\*|[^/\s:]+)):(\d{1,5})(?:\/(tcp|udp))?$/;
const SOURCE = /^(\*|[^/\s:]+\/(?:\*|[^/\s:]+))$/;

function* matrixEntries(file: ExpectationsFile) {
  for (const expect of ["allowed", "denied"] as const) {
    for (const [from, destinations] of Object.entries(file.matrix?.[expect] ?? {})) {
      yield { expect, from, destinations, path: ["matrix", expect, from] };
    }
  }
}

function matrixProblems(file: ExpectationsFile, input: YamlInput) {
  const problems = [];
  for (const { from, destinations, path } of matrixEntries(file)) {
    if (!SOURCE.test(from))
      problems.push(input.problem(path, `${JSON.stringify(from)}: write NAMESPACE/POD, NAMESPACE/* or *`));
    for (const [index, to] of destinations.entries()) {
      const port = Number(DESTINATION.exec(to)?.[2] ?? 0);
      if (port < 1 || port > 65_535) {
        problems.push(
          input.problem([...path, index], `${JSON.stringify(to)}: write NAMESPACE/POD:PORT or NAMESPACE/POD:PORT/udp`),
        );
      }
    }
  }
  return problems;
}

function readMatrix(file: ExpectationsFile, input: YamlInput): ExpectedMatrix | undefined {
  if (file.matrix === undefined) return undefined;
  const exceptions: MatrixException[] = [];
  for (const { expect, from, destinations, path } of matrixEntries(file)) {
    for (const [index, text] of destinations.entries()) {
      const [, to = "", port = "", protocol] = DESTINATION.exec(text) ?? [];
      exceptions.push({
        expect,
        from,
        to,
        port: Number(port),
        protocol: PROBE_PROTOCOLS.find((known) => known === protocol) ?? "tcp",
        source: lineOf(input, [...path, index]),
      });
    }
  }
  return {
    namespaces: file.matrix.namespaces ?? [],
    otherwise: file.matrix.otherwise,
    exceptions,
    source: lineOf(input, ["matrix"]),
  };
}

/** A pod as statements name it. */
export interface NamedPod {
  readonly namespace: string;
  readonly name: string;
  readonly owners: readonly { readonly name: string }[];
}

/** Whether a name in a statement means this pod: `*`, `shop/*`, the pod's own name or its workload's. */
export function means(name: string, pod: NamedPod): boolean {
  if (name === "*") return true;
  const [namespace, rest] = name.split("/");
  if (namespace !== pod.namespace) return false;
  return rest === "*" || rest === pod.name || pod.owners.some((owner) => owner.name === rest);
}

/** What the matrix expects of a pair. The first statement that names it counts; the file's order is kept within a list. */
export function expectedOf(
  matrix: ExpectedMatrix,
  pair: { readonly from: NamedPod; readonly to: NamedPod; readonly port: number; readonly protocol: ProbeProtocol },
): { readonly expect: Expected; readonly source: string } {
  const found = matrix.exceptions.find(
    (exception) =>
      exception.port === pair.port &&
      exception.protocol === pair.protocol &&
      means(exception.to, pair.to) &&
      means(exception.from, pair.from),
  );
  const { expect, source } = found ?? { expect: matrix.otherwise, source: matrix.source };
  return { expect, source };
}

/** Names in the matrix that mean no pod there is: most likely a typing error, so they are told. */
export function danglingNames(matrix: ExpectedMatrix, pods: readonly NamedPod[]): string[] {
  const missing = new Set<string>();
  for (const { from, to, source } of matrix.exceptions) {
    for (const name of [from, to]) {
      if (!pods.some((pod) => means(name, pod))) missing.add(`${source}: no pod or workload named ${name}`);
    }
  }
  return [...missing];
}

/** All probes with what is expected of each. */
export function expandExpectations(
  expectations: Expectations,
  pods: readonly NamedPod[],
  pairs: readonly ProbeRequest[],
): ExpectedFlow[] {
  const { matrix } = expectations;
  if (matrix === undefined) return [...expectations.flows];
  const byName = new Map(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod]));
  const fromMatrix = pairs.flatMap((request): ExpectedFlow[] => {
    const from = byName.get(request.from);
    const to = byName.get(request.to);
    if (from === undefined || to === undefined) return [];
    return [{ ...request, ...expectedOf(matrix, { from, to, port: request.port, protocol: request.protocol }) }];
  });
  return [...expectations.flows, ...fromMatrix];
}
