import { expect, test } from "vitest";
import { profileFromNamespace, profileFromServiceAccount } from "./profile.ts";

test("a namespace allows everything and hands its labels down", () => {
  const profile = profileFromNamespace({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "shop", labels: { team: "a" } },
  });
  expect(profile.metadata).toEqual({ name: "kns.shop" });
  expect(profile.spec).toEqual({
    ingress: [{ action: "Allow" }],
    egress: [{ action: "Allow" }],
    labelsToApply: { "pcns.team": "a", "pcns.projectcalico.org/name": "shop" },
  });
});

test("a service account has no rules and hands its labels down", () => {
  const profile = profileFromServiceAccount({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "web", namespace: "shop", labels: { role: "front" } },
  });
  expect(profile.metadata).toEqual({ name: "ksa.shop.web" });
  expect(profile.spec).toEqual({ labelsToApply: { "pcsa.role": "front", "pcsa.projectcalico.org/name": "web" } });
});

test("a label cannot give another name", () => {
  const labels = { "projectcalico.org/name": "kube-system" };
  const profile = profileFromNamespace({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels } });
  expect(profile.spec.labelsToApply).toEqual({ "pcns.projectcalico.org/name": "shop" });
});
