export { FakeConntrack, FakeKernel } from "./testing/fake-kernel.ts";
export { FakeNft } from "./testing/fake-nft.ts";
export type { ScratchNamespace } from "./testing/scratch.ts";
export { scratchNamespace } from "./testing/scratch.ts";
