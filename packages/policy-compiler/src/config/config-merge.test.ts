import { expect, test } from "vitest";
import { node, raw, resource } from "../testing/resources.ts";
import { createCompiler } from "../index.ts";

test("the default, what selects the node, the node's own and the process's own, each beating the one before", () => {
  const configs: unknown[] = [];
  const problems: string[] = [];
  const compiler = createCompiler({
    node: "n1",
    localConfig: { vxlanVNI: "9" },
    emit: (message) => {
      if (message.kind === "config-update") configs.push(message.config);
    },
    trace: ({ kind, name, messages }) => problems.push(`${kind} ${name}: ${messages.length}`),
  });
  const felix = (name: string, spec: object) => resource("FelixConfiguration", name, { spec });
  compiler.update(node("n1", { ipv4: "192.168.0.1/24", labels: { zone: "a" } }));
  compiler.update(
    felix("default", { vxlanPort: 1, vxlanVNI: 1, natPortRange: "1:2", externalNodesList: ["1.0.0.0/8", "2.0.0.0/8"] }),
  );
  compiler.update(felix("zone-a", { nodeSelector: "zone == 'a'", vxlanPort: 2, vxlanMTU: 2 }));
  compiler.update(felix("zone-b", { nodeSelector: "zone == 'b'", vxlanPort: 3 }));
  compiler.update(raw("FelixConfiguration", "broken", { spec: { nodeSelector: "zone ==", vxlanPort: 4 } }));
  compiler.update(
    felix("node.n1", {
      vxlanMTU: 5,
      failsafeOutboundHostPorts: [],
      failsafeInboundHostPorts: [
        { port: 22, protocol: "TCP" },
        { port: 53, protocol: "UDP", net: "10.0.0.0/8" },
      ],
    }),
  );
  compiler.setInSync();
  compiler.flush();
  compiler.flush();
  expect(configs).toHaveLength(1);
  expect(configs[0]).toMatchObject({
    externalNodesList: "1.0.0.0/8,2.0.0.0/8",
    failsafeInboundHostPorts: "tcp:22,udp:10.0.0.0/8:53",
    failsafeOutboundHostPorts: "none",
    natPortRange: "1:2",
    vxlanMTU: "5",
    vxlanPort: "2",
    vxlanVNI: "9",
  });
  expect(problems).toEqual(["FelixConfiguration broken: 1"]);
  compiler.update(node("n1", { ipv4: "192.168.0.1/24", labels: { zone: "b" } }));
  compiler.flush();
  expect(configs.at(-1)).toMatchObject({ vxlanPort: "3" });
});
