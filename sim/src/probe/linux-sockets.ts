/** The prober's sockets, opened in pods' namespaces by this process. */
import { bindUdp, connectTcp, ping } from "@calico-ts/linux";
import type { ProbeSockets } from "./prober.ts";

export const linuxProbeSockets: ProbeSockets = {
  tcp: (netns, address, port) => connectTcp({ netns, address, port }),
  udp: (netns, family) => bindUdp({ netns, address: { family, value: 0n }, port: 0 }),
  ping: (netns, address, timeoutMs) => ping({ netns, address, timeoutMs }),
};
