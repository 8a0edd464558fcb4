import { expect, test } from "vitest";
import { FLUSH_PHASES, policyIdText, workloadIdText } from "./messages.ts";

test("every kind has one place in a flush, and referents go around what refers to them", () => {
  const order = FLUSH_PHASES.flatMap(({ kinds }) => kinds);
  expect(new Set(order).size).toBe(order.length);
  const inOrder = (...kinds: readonly (typeof order)[number][]): void => {
    const places = kinds.map((kind) => FLUSH_PHASES.findIndex((phase) => phase.kinds.includes(kind)));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(new Set(places).size).toBe(places.length);
  };
  inOrder("config-update", "ip-set-update", "policy-update", "workload-endpoint-update");
  inOrder(
    "profile-update",
    "host-endpoint-update",
    "host-endpoint-remove",
    "profile-remove",
    "policy-remove",
    "ip-set-remove",
  );
  inOrder("route-remove", "vtep-remove", "vtep-update", "route-update", "in-sync");
  expect(order.at(-1)).toBe("in-sync");
});

test("ids as text", () => {
  expect(policyIdText({ kind: "GlobalNetworkPolicy", namespace: "", name: "g" })).toBe("GlobalNetworkPolicy/g");
  expect(policyIdText({ kind: "NetworkPolicy", namespace: "a", name: "p" })).toBe("NetworkPolicy/a/p");
  expect(workloadIdText({ orchestrator: "k8s", workload: "a/p", endpoint: "eth0" })).toBe("k8s/a/p/eth0");
});
