/**
 * FelixConfiguration resources → one set of values for this node: `default`, then those whose nodeSelector matches the node
 * (by name), then `node.<name>`, then what the process was started with. Values become text, spelled the way upstream's
 * environment variables spell them, so one parser serves all sources.
 */
import type { FelixConfiguration } from "@calico-ts/model";
import { parseSelector } from "@calico-ts/selector";
import { errorText } from "@calico-ts/std";

export type ConfigText = Readonly<Record<string, string>>;

export class ConfigMerge {
  readonly #node: string;
  readonly #local: ConfigText;
  readonly #resources = new Map<string, FelixConfiguration>();
  #nodeLabels: ReadonlyMap<string, string> = new Map();

  constructor(node: string, local: ConfigText) {
    this.#node = node;
    this.#local = local;
  }

  setResource(name: string, resource: FelixConfiguration | undefined): void {
    if (resource === undefined) this.#resources.delete(name);
    else this.#resources.set(name, resource);
  }

  setNodeLabels(labels: ReadonlyMap<string, string>): void {
    this.#nodeLabels = labels;
  }

  /** Keys sorted, so that equal configurations are equal texts. */
  merged(onProblem: (name: string, problem: string) => void): ConfigText {
    const values: Record<string, string> = {};
    for (const name of this.#layers(onProblem)) {
      for (const [key, value] of Object.entries(this.#resources.get(name)?.spec ?? {})) {
        const text = configText(value);
        if (key !== "nodeSelector" && text !== undefined) values[key] = text;
      }
    }
    Object.assign(values, this.#local);
    return Object.fromEntries(Object.entries(values).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }

  #layers(onProblem: (name: string, problem: string) => void): string[] {
    const selected = [...this.#resources.keys()]
      .filter((name) => name !== "default" && !name.startsWith("node."))
      .filter((name) => this.#matches(name, onProblem))
      .toSorted();
    return ["default", ...selected, `node.${this.#node}`];
  }

  #matches(name: string, onProblem: (name: string, problem: string) => void): boolean {
    const selector = this.#resources.get(name)?.spec.nodeSelector;
    if (selector === undefined || selector === "") return false;
    try {
      return parseSelector(selector).matches(this.#nodeLabels);
    } catch (error) {
      onProblem(name, `nodeSelector is not understood, the configuration is ignored: ${errorText(error)}`);
      return false;
    }
  }
}

/** Upstream's word for a list that is empty on purpose. An empty variable is one that nobody set. */
const NO_ITEMS = "none";

function configText(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value)) return value.flatMap((item) => configText(item) ?? []).join(",") || NO_ITEMS;
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "object") return undefined;
  if ("port" in value) return protoPortText(value);
  if ("min" in value && "max" in value) return `${String(value.min)}-${String(value.max)}`;
  if ("name" in value && "timeout" in value) return `${String(value.name)}=${String(value.timeout)}`;
  return Object.entries(value)
    .map(([key, item]) => `${key}=${configText(item) ?? ""}`)
    .join(",");
}

/** `tcp:22`, `udp:10.0.0.0/8:53` */
function protoPortText(value: { readonly port: unknown; readonly protocol?: unknown; readonly net?: unknown }): string {
  const protocol = typeof value.protocol === "string" ? value.protocol.toLowerCase() : "tcp";
  const net = typeof value.net === "string" && value.net !== "" ? `${value.net}:` : "";
  return `${protocol}:${net}${String(value.port)}`;
}
