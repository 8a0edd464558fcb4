import { describe, expect, test } from "vitest";
import type { CompilerUpdate } from "../index.ts";
import { createCompiler, NftPolicyRenderer } from "../index.ts";
import { pod, resource } from "../testing/resources.ts";

function open() {
  const renderer = new NftPolicyRenderer();
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  compiler.setInSync();
  const put = (update: CompilerUpdate): readonly string[] => {
    compiler.update(update);
    compiler.flush();
    return compiler
      .problems()
      .flatMap(({ kind, name, messages }) => messages.map((text) => `${kind} ${name}: ${text}`));
  };
  const chains = (): string[] => [...renderer.desired().chains.keys()];
  return { put, chains };
}

describe("annotations that ask for limits", () => {
  const limited = (annotations: Readonly<Record<string, string>>, node = "n1"): CompilerUpdate =>
    pod("shop/web", { ips: ["10.0.0.1"], node, annotations });

  test("what is wrong with them is told for pods of this node until it is mended; the rest counts", () => {
    const { put, chains } = open();
    const wrong = { "qos.projectcalico.org/ingressPacketRate": "20k", "qos.projectcalico.org/dscp": "nonsense" };
    expect(put(limited(wrong))).toEqual([
      "Pod web: qos.projectcalico.org/ingressPacketRate: 20k is out of range, 10000 is used",
      'Pod web: qos.projectcalico.org/dscp: "nonsense" is neither 0 to 63 nor a name such as EF or AF11',
    ]);
    expect(chains()).toContain("limits-forward-to-workload");
    expect(chains()).not.toContain("egress-dscp");
    expect(put(limited({ "qos.projectcalico.org/dscp": "EF" }))).toEqual([]);
    expect(chains()).toContain("egress-dscp");
    expect(put(limited(wrong, "n2"))).toEqual([]);
    expect(chains()).not.toContain("egress-dscp");
  });

  test("hosts have DSCP", () => {
    const { put, chains } = open();
    const host = (dscp: string): CompilerUpdate =>
      resource("HostEndpoint", "h", {
        metadata: { annotations: { "qos.projectcalico.org/dscp": dscp } },
        spec: { node: "n1", interfaceName: "eth0", expectedIPs: ["192.168.0.1"] },
      });
    expect(put(host("99"))).toEqual([expect.stringContaining('HostEndpoint h: qos.projectcalico.org/dscp: "99"')]);
    expect(chains()).not.toContain("egress-dscp");
    expect(put(host("CS1"))).toEqual([]);
    expect(chains()).toContain("egress-dscp");
  });
});
