/** `pods/log`: where the logs are is the embedding program's business; it gives a callback. */
import { ApiError, badRequest, methodNotAllowed, notFoundError } from "../meta/api-error.ts";
import { asObject, asObjects, asText, objectKey } from "../meta/object.ts";
import type { Exchange } from "./exchange.ts";
import type { Target } from "./write.ts";

export async function handleLog(exchange: Exchange, target: Target, verb: string): Promise<void> {
  const { core, query, response } = exchange;
  const { resource, namespace = "", name } = target;
  if (verb !== "get") throw methodNotAllowed(resource, verb);
  const pod = core.store.collection("/pods").get(objectKey(namespace, name))?.object;
  if (pod === undefined) throw notFoundError(resource, name);
  const spec = asObject(pod["spec"]);
  const names = [...asObjects(spec["containers"]), ...asObjects(spec["initContainers"])].map((container) =>
    asText(container["name"]),
  );
  const main = asObjects(spec["containers"]).map((container) => asText(container["name"]));
  const container = query.get("container") ?? "";
  if (container === "" && main.length !== 1) {
    throw badRequest(`a container name must be specified for pod ${name}, choose one of: [${main.join(" ")}]`);
  }
  const chosen = container === "" ? (main[0] ?? "") : container;
  if (!names.includes(chosen)) throw badRequest(`container ${chosen} is not valid for pod ${name}`);
  if (asText(spec["nodeName"]) === "") throw badRequest(`pod ${name} does not have a host assigned`);
  if (core.podLogs === undefined)
    throw new ApiError(501, "NotImplemented", "this API server was started without a source of pod logs");
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const number = (key: string): number | undefined => (query.has(key) ? Number(query.get(key)) : undefined);
  const lines = core.podLogs({
    namespace,
    pod: name,
    container: chosen,
    follow: query.get("follow") === "true",
    previous: query.get("previous") === "true",
    timestamps: query.get("timestamps") === "true",
    tailLines: number("tailLines"),
    limitBytes: number("limitBytes"),
    sinceSeconds: number("sinceSeconds"),
    signal: AbortSignal.any([gone.signal, core.closing]),
  });
  for await (const chunk of lines) {
    if (!response.headersSent) {
      response.writeHead(200, { "content-type": "text/plain" });
      response.flushHeaders();
    }
    if (response.destroyed) break;
    if (!response.write(chunk)) await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
  }
  if (!response.headersSent) response.writeHead(200, { "content-type": "text/plain" });
  response.end();
}
