/**
 * From text to a configuration, and what a change of it costs.
 *
 * Precedence, highest first: environment, per-node FelixConfiguration, those selecting this node, the global one, default. The
 * environment is read here; the datastore levels are joined by the policy compiler, which is given the environment's values
 * as those that win and tells the outcome in `config-update`. One default depends on the node: `defaultsOf`.
 */
import { CalicoError } from "@calico-ts/std";
import type { AgentConfig, Param, ParamName } from "./params.ts";
import { environmentName, paramNames, params } from "./params.ts";

/** FelixConfiguration spec names → values as text. */
export type ConfigText = Readonly<Record<string, string>>;

export interface ConfigProblem {
  readonly name: ParamName;
  readonly text: string;
  readonly expects: string;
}

export interface ResolvedConfig {
  readonly config: AgentConfig;
  /** Values that were no values; their defaults are in force. */
  readonly problems: readonly ConfigProblem[];
}

/** What the environment says about parameters we honour. An empty variable is as good as none. */
export function configFromEnvironment(env: Readonly<Record<string, string | undefined>>): ConfigText {
  const given = new Map<string, string>();
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && value !== "") given.set(name.toUpperCase(), value);
  }
  const text: Record<string, string> = {};
  for (const name of paramNames) {
    const value = given.get(environmentName(name));
    if (value !== undefined) text[name] = value;
  }
  return text;
}

/**
 * On a node that calico-node runs without a BGP daemon nobody but the agent can program the routes of un-encapsulated pools. Upstream leaves them to whoever
 * wants to: a cluster whose backend changes before its pools do has none then (decision 0008).
 */
export function defaultsOf(env: Readonly<Record<string, string | undefined>>): ConfigText {
  const backend = env["CALICO_NETWORKING_BACKEND"] ?? "";
  return backend === "vxlan" || backend === "none" ? { programClusterRoutes: "Enabled" } : {};
}

/** @throws CalicoError BAD_INPUT for a bad value of a parameter that must not be guessed. */
export function resolveConfig(text: ConfigText): ResolvedConfig {
  const problems: ConfigProblem[] = [];
  const values: Partial<Record<ParamName, unknown>> = {};
  for (const name of paramNames) {
    const declared: Param<unknown> = params[name];
    const given = text[name];
    const value = given === undefined || given === "" ? declared.fallback : declared.type.parse(given);
    if (value === undefined && given !== undefined && given !== "") {
      problems.push({ name, text: given, expects: declared.type.expects });
      if (declared.onBadValue === "exit") throw badValue(name, given, declared.type.expects);
    }
    values[name] = value ?? declared.fallback;
  }
  return { config: values as AgentConfig, problems };
}

/** A value that is none must not win over a good one from the datastore. */
export function withoutProblems(text: ConfigText, problems: readonly ConfigProblem[]): ConfigText {
  const bad = new Set<string>(problems.map(({ name }) => name));
  return Object.fromEntries(Object.entries(text).filter(([name]) => !bad.has(name)));
}

/** Parameters that differ and cannot change while the process runs. */
export function needRestart(before: AgentConfig, after: AgentConfig): readonly ParamName[] {
  return paramNames.filter((name) => {
    const declared: Param<unknown> = params[name];
    return declared.live !== true && comparable(before[name]) !== comparable(after[name]);
  });
}

function comparable(value: unknown): string {
  if (value instanceof RegExp) return value.source;
  if (value instanceof Map) return JSON.stringify([...value]);
  return JSON.stringify(value) ?? "undefined";
}

const badValue = (name: ParamName, text: string, expects: string): CalicoError =>
  new CalicoError(
    "BAD_INPUT",
    `${environmentName(name)} or FelixConfiguration spec.${name}: "${text}" is not acceptable, expected ${expects}; ` +
      "the agent does not start with a guess here, correct the value",
    { detail: { parameter: name } },
  );
