/** The README's route server, between two clients on sockets that speak with the codec alone. */
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import {
  decodeUpdate,
  encodeAnnouncements,
  encodeMessage,
  encodeOpenBody,
  MessageFramer,
  type MessageType,
  type UpdateMessage,
} from "@calico-ts/bgp";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { afterEach, expect, test, vi } from "vitest";
import { routeServer } from "../testing/route-server.ts";

const context = { fourOctetAs: true, addPath: new Set<"ipv4-unicast">(), internal: false };
const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

interface Client {
  readonly socket: Socket;
  readonly heard: MessageType[];
  readonly updates: UpdateMessage[];
}

/** Opens a session and notes what comes. */
function client(port: number, localAddress: string, as: number): Client {
  const socket = connect({ host: "127.0.0.1", port, localAddress });
  open.push(() => void socket.destroy());
  const framer = new MessageFramer();
  const heard: MessageType[] = [];
  const updates: UpdateMessage[] = [];
  const identifier = Number(parseAddress(localAddress).value);
  const capabilities = [
    { kind: "multiprotocol" as const, afi: 1, safi: 1 },
    { kind: "four-octet-as" as const, as },
  ];
  socket.write(encodeMessage("open", encodeOpenBody({ version: 4, as, holdSeconds: 90, identifier, capabilities })));
  socket.on("data", (bytes: Uint8Array) => {
    for (const { type, body } of framer.push(bytes).frames) {
      heard.push(type);
      if (type === "open") socket.write(encodeMessage("keepalive"));
      const decoded = type === "update" ? decodeUpdate(body, context) : undefined;
      if (decoded?.ok === true) updates.push(decoded.update);
    }
  });
  return { socket, heard, updates };
}

test("the README's route server passes routes between its clients as they came", async () => {
  const clients = [65001, 65002].map((as, at) => ({ address: `127.0.0.${at + 2}`, as }));
  const server = routeServer(65000, "192.0.2.1", clients).listen(0, "127.0.0.1");
  open.push(() => void server.close());
  await vi.waitFor(() => expect(server.listening).toBe(true), 20_000);
  const { port } = server.address() as AddressInfo;
  const [a, b] = clients.map(({ address, as }) => client(port, address, as));
  if (a === undefined || b === undefined) return;
  await vi.waitFor(() => expect([a.updates.length, b.updates.length]).toEqual([1, 1]), 20_000);
  expect(a.heard).toEqual(["open", "keepalive", "update"]);
  const attributes = {
    origin: "igp" as const,
    asPath: [{ kind: "sequence" as const, ases: [65001] }],
    nextHop: parseAddress("198.51.100.2"),
  };
  const routes = { family: "ipv4-unicast" as const, nlri: [{ prefix: parsePrefix("203.0.113.0/24") }] };
  const limits = { maxMessage: 4096 };
  for (const body of encodeAnnouncements(routes, attributes, context, limits))
    a.socket.write(encodeMessage("update", body));
  await vi.waitFor(() => expect(b.updates).toHaveLength(2), 20_000);
  expect(b.updates[1]).toMatchObject({ reachable: [routes], attributes });
  a.socket.destroy();
  await vi.waitFor(() => expect(b.updates[2]).toMatchObject({ withdrawn: [routes] }), 20_000);
});

test("and is what the README shows", () => {
  const read = (path: string): string => readFileSync(join(import.meta.dirname, "..", path), "utf8");
  expect(read("README.md")).toContain(`\`\`\`ts\n${read("testing/route-server.ts")}\`\`\`\n`);
});
