import { createServer, type Server, type Socket } from "node:net";
import { BgpSpeaker, type ConnectionOf, type PeerConfig, type SpeakerAction } from "@calico-ts/bgp";
import { formatAddress, parseAddress } from "@calico-ts/net";

/** A route server (RFC 7947): its clients connect, and hear of each other's routes as if they had a session with one another. */
export function routeServer(as: number, routerId: string, clients: readonly { address: string; as: number }[]): Server {
  const peers = clients.map(
    (client): PeerConfig => ({
      name: client.address,
      address: parseAddress(client.address),
      remoteAs: client.as,
      families: ["ipv4-unicast"],
      passive: true,
      role: "rs", // paths and next hops as they came
      nextHop: "keep",
      prefixLimit: { routes: 10_000, action: "stop", restartAfterSeconds: 300 },
    }),
  );
  const now = (): number => performance.now();
  const speaker = new BgpSpeaker({ as, routerId: Number(parseAddress(routerId).value), peers }, now());
  // Passive peers have one connection each, so the peer's name is enough of a key.
  const sockets = new Map<string, Socket>();
  let timer: NodeJS.Timeout | undefined;

  function act(actions: readonly SpeakerAction[]): void {
    for (const action of actions) {
      if (action.do === "send") {
        const full = sockets.get(action.peer)?.write(action.bytes) === false;
        if (full) speaker.setCongested(action.peer, true);
      } else if (action.do === "close") {
        sockets.get(action.peer)?.end();
        sockets.delete(action.peer);
      }
      // "connect" does not occur, all are passive; "route" is for who forwards packets; "report" is for logs.
    }
    clearTimeout(timer);
    const at = speaker.nextDeadline();
    if (at !== undefined) timer = setTimeout(() => act(speaker.tick(now())), Math.max(0, at - now()));
  }

  const server = createServer((socket) => {
    const peer = peers.find(({ address }) => formatAddress(address) === socket.remoteAddress)?.name;
    if (peer === undefined) {
      socket.destroy();
      return;
    }
    const refusal = speaker.admit(peer, now());
    if (refusal !== undefined) {
      socket.end(refusal);
      return;
    }
    const of: ConnectionOf = { peer, side: "incoming" };
    // A newer connection takes the place of an older one without a word, and what that one says late is not heard.
    const isCurrent = (): boolean => sockets.get(peer) === socket;
    sockets.get(peer)?.destroy();
    sockets.set(peer, socket);
    let reason = "closed by the peer";
    socket.on("data", (bytes: Uint8Array) => isCurrent() && act(speaker.receive(of, bytes, now())));
    socket.on("drain", () => {
      if (isCurrent()) speaker.setCongested(peer, false);
      act([]);
    });
    socket.on("error", (error) => (reason = error.message));
    socket.on("close", () => isCurrent() && sockets.delete(peer) && act(speaker.disconnected(of, reason, now())));
    act(speaker.connected(of, now(), parseAddress(socket.localAddress ?? "")));
  });
  server.on("close", () => clearTimeout(timer));
  act(speaker.start(now()));
  return server;
}
