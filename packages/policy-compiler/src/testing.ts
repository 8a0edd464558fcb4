/** What other packages use in their tests: worlds, named and random, and short ways to write resources. Needs fast-check. */
export { rulesetConfig } from "./ruleset/ruleset-config.ts";
export type { RandomPacket } from "./testing/random-worlds.ts";
export { randomHostWorld, randomPackets, randomWorld } from "./testing/random-worlds.ts";
export type { BlockOptions, NodeOptions, PodOptions, World } from "./testing/resources.ts";
export {
  block,
  globalPolicy,
  gone,
  kubernetesPolicy,
  namespace,
  node,
  pod,
  policy,
  pool,
  raw,
  resource,
  updateId,
  worldOf,
} from "./testing/resources.ts";
export { STATES, steps } from "./testing/states.ts";
