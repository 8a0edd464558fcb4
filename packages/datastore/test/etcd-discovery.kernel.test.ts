/** ETCD_DISCOVERY_SRV against a real etcd and a name server of our own, which knows nothing but SRV records. */
import { createSocket, type Socket } from "node:dgram";
import { getServers, setServers } from "node:dns";
import { syncBuiltinESMExports } from "node:module";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openEtcd } from "../src/etcd/index.ts";
import { openFromEnvironment, openMemory } from "../src/index.ts";
import { type EtcdServer, startEtcd } from "../src/testing/etcd-server.ts";

const SRV = 33;

interface Record {
  readonly priority: number;
  readonly port: number;
}

/** Answers SRV questions from a table (RFC 1035 §4.1, RFC 2782); every other name does not exist. Targets are localhost. */
class NameServer implements AsyncDisposable {
  readonly records = new Map<string, readonly Record[]>();
  readonly asked: string[] = [];
  readonly #socket: Socket = createSocket("udp4");

  async open(): Promise<string> {
    this.#socket.on("message", (query, from) => this.#socket.send(this.#answer(query), from.port, from.address));
    this.#socket.bind(0, "127.0.0.1");
    await once(this.#socket, "listening");
    return `127.0.0.1:${this.#socket.address().port}`;
  }

  #answer(query: Buffer): Buffer {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.subarray(at + 1, at + 1 + length).toString());
      at += 1 + length;
    }
    const question = query.subarray(12, at + 5);
    const name = labels.join(".").toLowerCase();
    this.asked.push(name);
    const found = query.readUInt16BE(at + 1) === SRV ? (this.records.get(name) ?? []) : [];
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    header.writeUInt16BE(found.length > 0 ? 0x85_80 : 0x85_83, 2); // an answer, authoritative, recursion; NXDOMAIN
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(found.length, 6);
    return Buffer.concat([header, question, ...found.map(answerRecord)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await once(this.#socket, "close");
  }
}

function answerRecord({ port, priority }: Record): Buffer {
  const target = Buffer.from("\u0009localhost\0");
  const fixed = Buffer.alloc(12 + 6);
  fixed.writeUInt16BE(0xc0_0c, 0); // the name in the question
  fixed.writeUInt16BE(SRV, 2);
  fixed.writeUInt16BE(1, 4);
  fixed.writeUInt32BE(60, 6);
  fixed.writeUInt16BE(6 + target.length, 10);
  fixed.writeUInt16BE(priority, 12);
  fixed.writeUInt16BE(0, 14);
  fixed.writeUInt16BE(port, 16);
  return Buffer.concat([fixed, target]);
}

const portOf = (server: EtcdServer): number => Number(new URL(server.endpoint).port);

let names: NameServer;
let plain: EtcdServer;
let secure: EtcdServer;
const before = getServers();

/** The name servers of this process. Node makes new functions for them, which modules get to see only when told to. */
function ask(...servers: readonly string[]): void {
  setServers(servers);
  syncBuiltinESMExports();
}

beforeAll(async () => {
  names = new NameServer();
  ask(await names.open());
  [plain, secure] = await Promise.all([startEtcd(), startEtcd({ tls: true })]);
}, 180_000);

afterAll(async () => {
  ask(...before);
  await Promise.all([names, plain, secure].map((one) => one?.[Symbol.asyncDispose]()));
}, 60_000);

const pool = (name: string) => ({
  apiVersion: "projectcalico.org/v3" as const,
  kind: "IPPool" as const,
  metadata: { name },
  spec: { cidr: "10.0.0.0/16" },
});

test("records without TLS lead to the server, through the environment", async () => {
  names.records.set("_etcd-client._tcp.plain.test", [{ priority: 1, port: portOf(plain) }]);
  const env = { DATASTORE_TYPE: "etcdv3", ETCD_DISCOVERY_SRV: "plain.test" };
  await using client = await openFromEnvironment(env);
  await client.create("IPPool", pool("found"));
  expect((await client.get("IPPool", { name: "found" })).spec.cidr).toBe("10.0.0.0/16");
  expect(names.asked).toEqual(
    expect.arrayContaining(["_etcd-client-ssl._tcp.plain.test", "_etcd-client._tcp.plain.test"]),
  );
});

test("records with TLS lead to a TLS server, whose certificate must be for the name in the record", async () => {
  names.records.set("_etcd-client-ssl._tcp.secure.test", [{ priority: 1, port: portOf(secure) }]);
  const config = { ...secure.config, endpoints: [], discoverySrv: "secure.test" };
  await using client = openEtcd({ config, kubernetes: openMemory() });
  // The server's certificate, which it made itself, is for 127.0.0.1; the record says localhost.
  await expect(client.list("IPPool")).rejects.toThrow(/does not match certificate's altnames/);
});

test("a server that is down is passed over, and a lower priority number comes first", async () => {
  // A port nobody listens on: that of a socket which has just been closed.
  const free = createSocket("udp4");
  free.bind(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address();
  free.close();
  names.records.set("_etcd-client._tcp.two.test", [
    { priority: 20, port: portOf(plain) },
    { priority: 10, port },
  ]);
  const config = { ...plain.config, endpoints: [], discoverySrv: "two.test" };
  await using client = openEtcd({ config, kubernetes: openMemory() });
  await client.create("IPPool", pool("second"));
  expect((await client.get("IPPool", { name: "second" })).metadata.name).toBe("second");
});

test("no record: the error names the domain and the variable, and the next call asks again", async () => {
  const config = { ...plain.config, endpoints: [], discoverySrv: "later.test" };
  await using client = openEtcd({ config, kubernetes: openMemory() });
  await expect(client.list("IPPool")).rejects.toMatchObject({
    code: "UNAVAILABLE",
    message: expect.stringMatching(/no SRV record of later\.test .*ETCD_DISCOVERY_SRV/) as string,
  });
  names.records.set("_etcd-client._tcp.later.test", [{ priority: 1, port: portOf(plain) }]);
  expect((await client.list("IPPool")).items.length).toBeGreaterThan(0);
});
