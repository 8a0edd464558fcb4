/** A full mesh in memory: `node --conditions=calico-src bench/mesh.ts [nodes]`. Every node originates one route and has to learn all others'. */
import { parsePrefix } from "@calico-ts/net";
import { Network, peerOf } from "../test/support/network.ts";

const count = Number(process.argv[2] ?? 300);
const network = new Network();
const begin = performance.now();
for (let i = 0; i < count; i++) {
  const peers = Array.from({ length: count }, (_, other) => peerOf(`n${other}`, other + 1)).filter(
    (_, other) => other !== i,
  );
  const speaker = network.add(`n${i}`, { as: 64512, routerId: i + 1, peers });
  speaker.originate(parsePrefix(`10.${128 + (i >> 8)}.${i & 255}.0/26`), {}, 0);
}
network.run(15_000);
const complete = [...network.nodes.values()].filter(({ routes }) => routes.size === count).length;
const rss = Math.round(process.memoryUsage().rss / 1e6);
process.stdout.write(
  `${count} nodes, ${(count * (count - 1)) / 2} sessions: ${complete} complete after ${((performance.now() - begin) / 1000).toFixed(1)} s, ${network.delivered} deliveries, rss ${rss} MB for all of them\n`,
);
if (complete !== count) process.exitCode = 1;
