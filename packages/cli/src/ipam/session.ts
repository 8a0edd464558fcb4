/** What an address command works with. Tests give it a memory datastore and strings. */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Clock } from "@calico-ts/runtime";

export interface Session {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  /** Text with its line ends. */
  readonly out: (text: string) => void;
  readonly readFile: (path: string) => string;
  readonly writeFile: (path: string, text: string) => void;
}
