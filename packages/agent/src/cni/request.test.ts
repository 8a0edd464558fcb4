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

  test("GC's attachments are container and interface", () => {
    const request = parseRequest(
      line({ "cni.dev/valid-attachments": [{ containerID: "a", ifname: "eth0" }, "junk"] }, { command: "GC" }),
    );
    expect([...request.config.validAttachments]).toEqual(["a/eth0"]);
  });
});
