/** What detection needs from this host: interfaces with addresses, and the source address towards a destination. */
import { createSocket } from "node:dgram";
import { networkInterfaces } from "node:os";
import type { Family } from "@calico-ts/net";
import { tryParseAddress } from "@calico-ts/net";
import type { HostInterface } from "./detect.ts";

export function hostInterfaces(): HostInterface[] {
  return Object.entries(networkInterfaces()).map(([name, addresses]) => ({
    name,
    addresses: (addresses ?? []).flatMap(({ address: text, cidr }) => {
      const address = tryParseAddress(text);
      const length = Number(cidr?.split("/")[1] ?? Number.NaN);
      return address === undefined || Number.isNaN(length) ? [] : [{ address, length }];
    }),
  }));
}

/** Connecting a UDP socket sends nothing but makes the kernel choose a route and with it a source address. */
export function sourceAddressTowards(destination: string, family: Family): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(family === 4 ? "udp4" : "udp6");
    const finish = (address: string | undefined): void => {
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      socket.close();
      resolve(address);
    };
    socket.once("error", () => finish(undefined));
    socket.connect(9, destination, () => finish(socket.address().address));
  });
}
