export type { BundleOptions } from "./failure-bundle.ts";
export { captureBundle } from "./failure-bundle.ts";
