/** The same code against an API server that validates, prunes and swaps for itself. */
import { openKubernetes, parseKubeconfig } from "@calico-ts/datastore";
import { installDefinitions } from "@calico-ts/datastore/testing";
import { startApiServer } from "@calico-ts/kube-apiserver";
import { expect, test } from "vitest";
import { addNode, forPod, holders, poolResource, texts, worldProblems } from "./testing/world.ts";
import { HostAllocator } from "./host-allocator.ts";
import { Ipam } from "./ipam.ts";

test("three nodes assign and release at once, run out of blocks, borrow, and leave clean books", {
  timeout: 60_000,
}, async () => {
  await using server = await startApiServer();
  const connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
  await installDefinitions(connection, [
    "IPPool",
    "IPReservation",
    "IPAMBlock",
    "IPAMHandle",
    "IPAMConfiguration",
    "BlockAffinity",
  ]);
  await using client = openKubernetes({ connection });
  await client.create("IPPool", poolResource("small", { cidr: "10.0.0.0/26", blockSize: 28 }));
  for (const name of ["a", "b", "c"]) await addNode(client, name);
  const hosts = ["a", "b", "c"].map((host) => new HostAllocator({ client, host }));
  const all = await Promise.all(
    hosts.flatMap((host, n) => Array.from({ length: 21 }, (_, i) => host.assign(forPod(`k8s-pod-network.${n}-${i}`)))),
  );
  expect(new Set(texts(all.flat())).size).toBe(63);
  expect(await worldProblems(client, { atRest: true })).toEqual([]);
  await hosts[0]?.assign(forPod("last"));
  await expect(hosts[1]?.assign(forPod("too-much"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
  await Promise.all(
    hosts.flatMap((host, n) => Array.from({ length: 21 }, (_, i) => host.release(`k8s-pod-network.${n}-${i}`))),
  );
  expect(await holders(client)).toEqual(new Map([[expect.any(String), "last"]]));
  expect(await worldProblems(client, { atRest: true })).toEqual([]);
  const ipam = new Ipam({ client });
  await ipam.releaseByHandle("last");
  for (const name of ["a", "b", "c"]) await ipam.removeHost(name);
  expect((await client.list("IPAMBlock")).items).toEqual([]);
  expect((await client.list("IPAMHandle")).items).toEqual([]);
});
