import { formatPrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { CniFailure } from "./cni-failure.ts";
import { parseRequest } from "./request.ts";

const line = (config: object, change: object = {}): string =>
  JSON.stringify({
    version: 1,
    program: "calico",
    command: "ADD",
    containerId: "c1",
    netns: "/run/netns/p",
    ifName: "eth0",
    args: { K8S_POD_NAMESPACE: "shop", K8S_POD_NAME: "web" },
    config: { cniVersion: "1.0.0", name: "net", ...config },
    ...change,
  });

function failure(text: string): CniFailure {
  try {
    parseRequest(text);
  } catch (error) {
    if (error instanceof CniFailure) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("a request on the CNI socket", () => {
  test("has upstream's defaults", () => {
    expect(parseRequest(line({})).config).toMatchObject({
      mtu: 0,
      assignIpv4: true,
      assignIpv6: false,
      ipv4Pools: [],
      allowIpForwarding: false,
    });
  });

  test("takes upstream's spelling of booleans in ipam", () => {
    expect(
      parseRequest(line({ ipam: { type: "calico-ipam", assign_ipv4: "false", assign_ipv6: "true" } })).config,
    ).toMatchObject({
      assignIpv4: false,
      assignIpv6: true,
    });
  });

  test("names everything that is wrong with the configuration at once", () => {
    const { code, message } = failure(
      line({
        mtu: -1,
        ipam: { type: "../host-local", ipv4_pools: "x" },
        container_settings: { allow_ip_forwarding: 3 },
      }),
    );
    expect(code).toBe(7);
    for (const part of ["mtu", "host-local", "ipam.ipv4_pools", "allow_ip_forwarding"]) expect(message).toContain(part);
  });

  test("without any address family is refused", () => {
    expect(failure(line({ ipam: { assign_ipv4: false } })).message).toContain("both off");
  });

  test.each(["", "null", "[]", "{", '{"version":2,"command":"ADD"}', '{"version":1,"command":"EXPLODE"}'])(
    "%j is refused with code 4",
    (text) => {
      expect(failure(text).code).toBe(4);
    },
  );

  test("half a pod name is no pod", () => {
    expect(parseRequest(line({}, { args: { K8S_POD_NAME: "web" } })).pod).toBeUndefined();
  });

  test.each([
    ["cni.dev/valid-attachments", [{ containerID: "a", ifname: "eth0" }], ["a"]],
    ["cni.dev/attachments", [{ containerID: "a", ifname: "eth0" }], ["a"]],
    ["cni.dev/valid-attachments", [], []],
    ["cni.dev/valid-attachments", null, []],
  ])("%s of a GC: %j", (key, value, containers) => {
    const { config } = parseRequest(line({ [key]: value }, { command: "GC" }));
    expect([...config.validContainers]).toEqual(containers);
  });

  test.each([
    ["no list of what is to stay", {}],
    ["something else than a list", { "cni.dev/valid-attachments": {} }],
    ["an entry that names no container", { "cni.dev/valid-attachments": ["junk"] }],
  ])("a GC with %s is refused: it would take everything away", (_what, config) => {
    expect(failure(line(config, { command: "GC" }))).toMatchObject({
      code: 7,
      message: expect.stringContaining("cni.dev/valid-attachments") as string,
    });
  });

  test.each([
    ["name", { name: undefined }],
    ["name", { name: "a/b" }],
    ["name", { name: 7 }],
    ["ipam", { ipam: "calico-ipam" }],
    ["feature_control", { feature_control: [] }],
    ["container_settings", { container_settings: true }],
    ["num_queues", { num_queues: "many" }],
    ["num_queues", { num_queues: 5000 }],
    ["mtu", { mtu: 67 }],
    ["mtu", { mtu: 1400.5 }],
    ["readiness_gates: must be a list of URLs", { readiness_gates: "http://localhost" }],
    ["policy_setup_timeout_seconds", { policy_setup_timeout_seconds: -1 }],
    ["include_default_routes", { include_default_routes: 1 }],
    ["ipam.routes: must be a list", { ipam: { type: "host-local", routes: {} } }],
    ["ipam.routes: dst must be a CIDR", { ipam: { type: "host-local", routes: [{ dst: "everywhere" }] } }],
  ])("%s is named: %j", (key, config) => {
    expect(failure(line(config))).toMatchObject({ code: 7, message: expect.stringContaining(key) as string });
  });

  test("null is as good as nothing, as it is for upstream", () => {
    const config = { mtu: null, ipam: null, readiness_gates: null, num_queues: null, feature_control: null };
    expect(parseRequest(line(config)).config).toMatchObject({ mtu: 0, queues: 1, ipamType: "calico-ipam" });
  });

  test("a DEL is taken whatever its configuration says, unless it leads to a plugin that cannot be", () => {
    expect(parseRequest(line({ mtu: "x", name: undefined, device_type: "x" }, { command: "DEL" })).command).toBe("DEL");
    expect(failure(line({ ipam: { type: "../sh" } }, { command: "DEL" })).code).toBe(7);
  });

  test.each([
    [{}, undefined, []],
    [{ routes: [{ dst: "10.1.0.0/16", gw: "10.0.0.1" }, { dst: "fd00::/8" }, {}] }, false, ["10.1.0.0/16", "fd00::/8"]],
    [{ routes: [{ dst: "10.1.0.0/16" }] }, true, ["0.0.0.0/0", "::/0", "10.1.0.0/16"]],
    [{ routes: [{ dst: "10.1.0.0/16" }], type: "static" }, true, []],
    [{ routes: null }, true, []],
  ])("routes of host-local: %j, with the default ones: %s", (ipam, withDefault, expected) => {
    const config = { ipam: { type: "host-local", ...ipam }, include_default_routes: withDefault };
    expect(parseRequest(line(config)).config.routes.map(formatPrefix)).toEqual(expected);
  });
});
