/**
 * `kubectl logs`: of a real program its file, of a stub the connections it answered.
 *
 * A file has no time on its lines, so `timestamps` and `sinceTime` apply to stubs alone.
 */
import { open, stat } from "node:fs/promises";
import { CalicoError } from "@calico-ts/std";
import type { LogRequest } from "./cluster-port.ts";
import { pause } from "./kube/informer.ts";
import type { Container, Pod } from "./kube/objects.ts";
import { logFileOf } from "./kubelet/container-body.ts";
import type { ConnectionLog, LogLine } from "./stub/connection-log.ts";
import type { ClusterView } from "./views.ts";

export interface LogDeps {
  readonly view: ClusterView;
  readonly stateDir: string;
}

const POLL_MS = 200;
const CHUNK = 64 * 1024;

export async function* readLogs(deps: LogDeps, request: LogRequest): AsyncGenerator<string> {
  const { namespace, pod: name } = request;
  const pod = deps.view.pod(namespace, name);
  if (pod === undefined) throw new CalicoError("NOT_FOUND", `pods "${name}" not found`);
  const container = chooseContainer(pod, request.container);
  const worker = deps.view.worker(namespace, name);
  const node = pod.spec.nodeName;
  if (node === undefined) throw new CalicoError("BAD_INPUT", `pod ${name} does not have a host assigned`);
  const file = logFileOf(
    { stateDir: deps.stateDir, node: { name: node, netns: "", hostRoot: "", addresses: [] } },
    pod,
    container.name,
  );
  const path = request.previous === true ? `${file}.previous` : file;
  if (await exists(path)) yield* limited(fileLines(path, request), request.limitBytes);
  else if (worker !== undefined && request.previous !== true)
    yield* limited(stubLines(worker.connectionLog(container.name), request), request.limitBytes);
  else if (request.previous === true) {
    throw new CalicoError("BAD_INPUT", `previous terminated container "${container.name}" in pod "${name}" not found`);
  }
}

function chooseContainer(pod: Pod, wanted: string | undefined): Container {
  const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
  const names = all.map((each) => each.name).join(" ");
  if (wanted === undefined || wanted === "") {
    const only = pod.spec.containers[0];
    if (only !== undefined && pod.spec.containers.length === 1) return only;
    throw new CalicoError(
      "BAD_INPUT",
      `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${names}]`,
    );
  }
  const found = all.find((each) => each.name === wanted);
  if (found === undefined)
    throw new CalicoError("BAD_INPUT", `container ${wanted} is not valid for pod ${pod.metadata.name}`);
  return found;
}

async function* limited(lines: AsyncIterable<string>, limitBytes: number | undefined): AsyncGenerator<string> {
  let left = limitBytes ?? Number.POSITIVE_INFINITY;
  for await (const line of lines) {
    const bytes = Buffer.byteLength(line);
    if (bytes > left) {
      yield Buffer.from(line).subarray(0, left).toString("utf8");
      return;
    }
    left -= bytes;
    yield line;
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

async function* fileLines(path: string, request: LogRequest): AsyncGenerator<string> {
  const signal = request.signal ?? new AbortController().signal;
  let position = 0;
  const first = await readFrom(path, position);
  position = first.end;
  const lines = first.text.split(/(?<=\n)/).filter((line) => line !== "");
  yield* request.tailLines === undefined ? lines : lines.slice(Math.max(0, lines.length - request.tailLines));
  while (request.follow === true && !signal.aborted) {
    await pause(POLL_MS, signal);
    const { size } = await stat(path).catch(() => ({ size: position }));
    // Shorter than where we were: the container was started again and has a new file.
    if (size < position) position = 0;
    if (size === position) continue;
    const more = await readFrom(path, position);
    position = more.end;
    if (more.text !== "") yield more.text;
  }
}

async function readFrom(path: string, start: number): Promise<{ readonly text: string; readonly end: number }> {
  const file = await open(path, "r");
  try {
    const chunks: Buffer[] = [];
    let end = start;
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK), 0, CHUNK, end);
      if (bytesRead === 0) return { text: Buffer.concat(chunks).toString("utf8"), end };
      chunks.push(buffer.subarray(0, bytesRead));
      end += bytesRead;
    }
  } finally {
    await file.close();
  }
}

async function* stubLines(log: ConnectionLog, request: LogRequest): AsyncGenerator<string> {
  const format = ({ atMs, text }: LogLine): string =>
    request.timestamps === true ? `${new Date(atMs).toISOString()} ${text}\n` : `${text}\n`;
  const since = request.sinceTime?.getTime() ?? 0;
  const past = log.lines().filter((line) => line.atMs >= since);
  if (request.follow !== true) {
    for (const line of past.slice(request.tailLines === undefined ? 0 : Math.max(0, past.length - request.tailLines)))
      yield format(line);
    return;
  }
  const signal = request.signal ?? new AbortController().signal;
  const pending: LogLine[] = [
    ...(request.tailLines === undefined ? past : past.slice(Math.max(0, past.length - request.tailLines))),
  ];
  let wake = Promise.withResolvers<void>();
  const stop = log.follow((line) => {
    pending.push(line);
    wake.resolve();
  });
  signal.addEventListener("abort", () => wake.resolve(), { once: true });
  try {
    while (!signal.aborted) {
      for (const line of pending.splice(0)) yield format(line);
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
  } finally {
    stop();
  }
}
