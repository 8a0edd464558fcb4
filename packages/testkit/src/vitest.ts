/** Failure bundles and scratch namespaces tied to the life of a vitest test or suite. */
import { type ScratchNamespace, scratchNamespace } from "@calico-ts/linux/testing";
import { afterAll, afterEach, onTestFinished } from "vitest";
import { captureBundle } from "./failure-bundle.ts";

/** The part of vitest's task that we look at. */
export interface FinishedTask {
  readonly name: string;
  readonly fullTestName?: string;
  readonly result?:
    | { readonly state: string; readonly errors?: readonly { readonly message?: string }[] | undefined }
    | undefined;
}

export interface BundleSources {
  readonly netns: readonly string[];
  readonly files?: readonly string[];
  readonly dir?: string;
}

/** The bundle's folder when the test failed, else undefined. */
export function bundleIfFailed(task: FinishedTask, sources: () => BundleSources): string | undefined {
  if (task.result?.state !== "fail") return undefined;
  const reason = task.result.errors?.map((error) => error.message ?? "").join("; ");
  const name = task.fullTestName ?? task.name;
  return captureBundle({ ...sources(), name, ...(reason === undefined ? {} : { reason }) });
}

/**
 * In a suite: captures a bundle after each test that failed. Register it after hooks that tear namespaces down, so that
 * it runs before them (vitest runs `afterEach` hooks last in, first out).
 */
export function onFailureBundle(sources: () => BundleSources): void {
  afterEach(({ task }) => void bundleIfFailed(task, sources));
}

/** In a test: a namespace that is captured if the test fails, and gone when it is over. */
export function useNamespace(label?: string, files: readonly string[] = []): ScratchNamespace {
  const namespace = scratchNamespace(label);
  onTestFinished(({ task }) => {
    bundleIfFailed(task, () => ({ netns: [namespace.name], files }));
    namespace[Symbol.dispose]();
  });
  return namespace;
}

/** In a suite: a namespace for all of its tests, captured after each that fails. */
export function suiteNamespace(label?: string, files: readonly string[] = []): ScratchNamespace {
  const namespace = scratchNamespace(label);
  onFailureBundle(() => ({ netns: [namespace.name], files }));
  afterAll(() => namespace[Symbol.dispose]());
  return namespace;
}
