/** What `up` hands to the daemon it starts: one JSON argument. */
export interface DaemonOptions {
  readonly run: string;
  readonly topology: string;
  readonly nodes?: number;
  /** The user's; the product's come from the plugins. */
  readonly manifests: readonly string[];
  /** Use this API server instead of the embedded one. */
  readonly kubeconfig?: string;
  readonly timeoutSeconds: number;
}
