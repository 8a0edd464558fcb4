import { describe, expect, test } from "vitest";
import { CniError } from "./cni-error.ts";
import { answerVersion, readRequest } from "./request.ts";

const environment = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "abc123",
  CNI_NETNS: "/run/netns/x",
  CNI_IFNAME: "eth0",
  CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
  CNI_PATH: "/opt/cni/bin",
};
const config = JSON.stringify({ cniVersion: "1.0.0", name: "net", type: "calico" });

function codeOf(run: () => unknown): number {
  try {
    run();
  } catch (error) {
    if (error instanceof CniError) return error.code;
    throw error;
  }
  return 0;
}

describe("a CNI request", () => {
  test("carries the environment and the configuration", () => {
    expect(readRequest("calico", environment, config)).toMatchObject({
      version: 1,
      command: "ADD",
      cniVersion: "1.0.0",
      containerId: "abc123",
      args: { K8S_POD_NAMESPACE: "shop", K8S_POD_NAME: "web-0" },
      config: { name: "net" },
    });
  });

  test.each([
    ["no command", { ...environment, CNI_COMMAND: undefined }],
    ["an unknown command", { ...environment, CNI_COMMAND: "add" }],
    ["an inherited property as command", { ...environment, CNI_COMMAND: "toString" }],
    ["no namespace for ADD", { ...environment, CNI_NETNS: "" }],
    ["a container id that is a path", { ...environment, CNI_CONTAINERID: "../../etc/passwd" }],
    ["an over-long interface name", { ...environment, CNI_IFNAME: "sixteencharacter" }],
    ["an interface name with a slash", { ...environment, CNI_IFNAME: "a/b" }],
    ["arguments that are not pairs", { ...environment, CNI_ARGS: "K8S_POD_NAME" }],
  ])("with %s is refused with code 4", (_what, env) => {
    expect(codeOf(() => readRequest("calico", env, config))).toBe(4);
  });

  test.each(["", "{", "[]", '"text"', "null"])("with the configuration %j is refused with code 6", (text) => {
    expect(codeOf(() => readRequest("calico", environment, text))).toBe(6);
  });

  test("in a version we do not speak is refused with code 1", () => {
    expect(codeOf(() => readRequest("calico", environment, '{"cniVersion":"2.0.0"}'))).toBe(1);
  });

  test("with a version that is no string is refused with code 6; an empty one is none", () => {
    expect(codeOf(() => readRequest("calico", environment, '{"cniVersion":1}'))).toBe(6);
    expect(readRequest("calico", environment, '{"cniVersion":""}').cniVersion).toBe("0.2.0");
  });

  test("for VERSION needs no configuration", () => {
    expect(readRequest("calico", { CNI_COMMAND: "VERSION" }, "\n").command).toBe("VERSION");
    expect(codeOf(() => readRequest("calico", { CNI_COMMAND: "VERSION" }, "{"))).toBe(6);
  });

  test.each([
    ["the one asked for", '{"cniVersion":"0.4.0"}', "0.4.0"],
    ["the newest where none is", "{}", "1.1.0"],
    ["the newest where it is not ours", '{"cniVersion":"9.0.0"}', "1.1.0"],
    ["the newest where nothing can be read", "", "1.1.0"],
  ])("is answered in a version whatever is wrong with it: %s", (_what, input, version) => {
    expect(answerVersion(input)).toBe(version);
  });

  test("DEL needs no namespace: it may be gone", () => {
    const env = { ...environment, CNI_COMMAND: "DEL", CNI_NETNS: "" };
    expect(readRequest("calico", env, config).netns).toBe("");
  });
});
