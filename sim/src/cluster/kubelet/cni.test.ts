import { describe, expect, test } from "vitest";
import { parseNetwork, pluginError } from "./cni.ts";

describe("a CNI network configuration", () => {
  test("is a list, or a single plugin", () => {
    const list = { name: "k8s-pod-network", cniVersion: "0.3.1", plugins: [{ type: "calico" }, { type: "portmap" }] };
    expect(parseNetwork(list, "f").plugins.map((plugin) => plugin.type)).toEqual(["calico", "portmap"]);
    expect(parseNetwork({ name: "n", type: "ptp" }, "f").plugins.map((plugin) => plugin.type)).toEqual(["ptp"]);
  });

  test.each([
    [null],
    [[]],
    [{}],
    [{ name: "n" }],
    [{ name: "n", plugins: [] }],
    [{ name: "n", plugins: [null] }],
    [{ name: "n", plugins: [{ type: "../x" }] }],
    [{ name: 3, type: "x" }],
  ])("that is broken is named with its file: %j", (value) =>
    expect(() => parseNetwork(value, "/etc/cni/net.d/10-x.conflist")).toThrow(/10-x\.conflist: /),
  );
});

describe("a plugin's failure", () => {
  test("is told in its own words", () => {
    const output = JSON.stringify({ cniVersion: "1.0.0", code: 11, msg: "pool exhausted", details: "node-1" });
    expect(pluginError("calico ADD", output, "noise").message).toBe("plugin calico ADD failed: pool exhausted; node-1");
    expect(pluginError("calico ADD", "", "panic: boom\n").message).toBe("plugin calico ADD failed: panic: boom");
    expect(pluginError("calico ADD", "null", "").message).toBe("plugin calico ADD failed: null");
    expect(pluginError("calico ADD", "", "").message).toBe("plugin calico ADD failed: no message");
  });
});
