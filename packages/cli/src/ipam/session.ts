/** What an address command works with. Tests give it a memory datastore and strings. */
import type { DatastoreClient } from "@calico-ts/datastore";
import { type IpAddress, tryParseAddress } from "@calico-ts/net";
import type { Clock } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";

export interface Session {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  /** Text with its line ends. */
  readonly out: (text: string) => void;
  readonly readFile: (path: string) => string;
  readonly writeFile: (path: string, text: string) => void;
}

/** @throws CalicoError BAD_INPUT */
export function addressArgument(text: string): IpAddress {
  const address = tryParseAddress(text);
  if (address === undefined) throw new CalicoError("BAD_INPUT", `invalid IP address specified: "${text}"`);
  return address;
}
