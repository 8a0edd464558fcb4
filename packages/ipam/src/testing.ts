/** For tests of this package and of whoever drives the allocator: a small world, its invariants, and the deterministic scheduler. */
export { type Actor, Schedule, type ScheduleOptions } from "./testing/schedule.ts";
export { shrinkChoices } from "./testing/shrink.ts";
export {
  addNode,
  forPod,
  holders,
  makeWorld,
  poolResource,
  type ProblemOptions,
  type World,
  type WorldOptions,
  worldProblems,
} from "./testing/world.ts";
