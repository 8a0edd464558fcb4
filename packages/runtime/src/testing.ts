export { FakeClock, settle } from "./testing/fake-clock.ts";
export { captureLog, type CapturedLine } from "./testing/capture-log.ts";
