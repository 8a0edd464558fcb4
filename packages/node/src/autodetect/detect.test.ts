import { formatAddress, parsePrefix, prefixAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { DetectionInput, HostInterface } from "./detect.ts";
import { detectAddress } from "./detect.ts";
import { parseDetectionMethod } from "./method.ts";

const face = (name: string, ...texts: string[]): HostInterface => ({
  name,
  addresses: texts.map((text) => {
    const [address = "", length = ""] = text.split("/");
    return { address: prefixAddress(parsePrefix(address)), length: Number(length) };
  }),
});

const interfaces = [
  face("lo", "127.0.0.1/8", "::1/128"),
  face("docker0", "172.17.0.1/16"),
  face("eth0", "169.254.3.3/16", "10.0.1.5/24", "fe80::1/64", "fd00::5/64"),
  face("eth1", "192.168.7.9/22"),
  face("cali123", "10.244.0.1/32"),
];

function detect(method: string, change: Partial<DetectionInput> = {}): string {
  const found = detectAddress({
    family: 4,
    method: parseDetectionMethod(method, "IP_AUTODETECTION_METHOD"),
    interfaces,
    internalAddresses: ["192.168.7.9"],
    sourceTowards: undefined,
    ...change,
  });
  return found === undefined ? "none" : `${found.interfaceName} ${formatAddress(found.address)}/${found.length}`;
}

describe("address detection", () => {
  test.each([
    ["first-found", "eth0 10.0.1.5/24"],
    ["interface=eth.*", "eth0 10.0.1.5/24"],
    ["interface=nope,eth1", "eth1 192.168.7.9/22"],
    ["interface=docker.*", "docker0 172.17.0.1/16"], // asking for it by name overrides the exclusions
    ["interface=wlan0", "none"],
    ["skip-interface=eth0", "eth1 192.168.7.9/22"],
    ["skip-interface=eth.*", "none"],
    ["cidr=192.168.0.0/16,10.0.0.0/8", "eth0 10.0.1.5/24"],
    ["cidr=203.0.113.0/24", "none"],
    ["kubernetes-internal-ip", "eth1 192.168.7.9/22"],
  ])("%s finds %s", (method, expected) => {
    expect(detect(method)).toBe(expected);
  });

  test("can-reach takes the interface that has the route's source address", () => {
    expect(detect("can-reach=8.8.8.8", { sourceTowards: "192.168.7.9" })).toBe("eth1 192.168.7.9/22");
    expect(detect("can-reach=8.8.8.8")).toBe("none");
  });

  test("IPv6 skips link-local addresses", () => {
    expect(detect("first-found", { family: 6 })).toBe("eth0 fd00::5/64");
  });

  test.each(["nonsense", "interface=", "interface=(", "cidr=10.0.0.0/99"])(
    "the method %j is refused by name",
    (method) => {
      expect(() => parseDetectionMethod(method, "IP_AUTODETECTION_METHOD")).toThrow(
        expect.objectContaining({ code: "BAD_INPUT", message: expect.stringContaining("IP_AUTODETECTION_METHOD") }),
      );
    },
  );
});
