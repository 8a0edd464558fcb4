import { parseYamlDocuments } from "@calico-ts/schema";
import { describe, expect, test } from "vitest";
import type { StagedOutcome } from "../index.ts";
import { completeWorld, explain, explanationText, readManifestWorld } from "../index.ts";

const pod = (name: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }\nspec: { containers: [] }\n---\n`;
const PODS = pod("web") + pod("db");
const calico = (kind: string, name: string, spec: string, namespace = ""): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: { name: ${name}${namespace} }\nspec: ${spec}\n---\n`;
const IN_SHOP = ", namespace: shop";
const SHUT = "{ selector: app == 'db', ingress: [{ action: Deny }] }";

const ask = (text: string) => {
  const { resources, workloads, problems } = readManifestWorld(parseYamlDocuments(text, "a.yaml"));
  expect(problems).toEqual([]);
  return explain(completeWorld(resources, { workloads, imagine: true }), {
    from: "shop/web",
    to: "shop/db",
    traffic: "tcp/80",
  });
};
const staged = (text: string): StagedOutcome | undefined => ask(text).paths[0]?.staged;

describe("staged policies in force", () => {
  test("none: nothing is said; nor of one that selects neither end, learns or is ignored", () => {
    expect(staged(PODS)).toBeUndefined();
    expect(
      staged(
        PODS + calico("StagedGlobalNetworkPolicy", "x", "{ selector: app == 'else', ingress: [{ action: Deny }] }"),
      ),
    ).toBeUndefined();
    for (const action of ["Learn", "Ignore"]) {
      expect(
        staged(PODS + calico("StagedGlobalNetworkPolicy", "x", SHUT.replace("{", `{ stagedAction: ${action},`))),
      ).toBeUndefined();
    }
  });

  test.each([
    ["StagedGlobalNetworkPolicy", calico("StagedGlobalNetworkPolicy", "x", SHUT)],
    ["StagedNetworkPolicy", calico("StagedNetworkPolicy", "x", SHUT, IN_SHOP)],
    [
      "StagedKubernetesNetworkPolicy",
      calico(
        "StagedKubernetesNetworkPolicy",
        "x",
        "{ podSelector: { matchLabels: { app: db } }, policyTypes: [Ingress] }",
        IN_SHOP,
      ),
    ],
  ])("%s that would deny: said, with its line; the verdict stays", (kind, policy) => {
    const explanation = ask(PODS + policy);
    expect(explanation.verdict).toBe("allowed");
    const outcome = explanation.paths[0]?.staged;
    expect(outcome).toMatchObject({
      verdict: "denied",
      policies: [{ kind, name: "x", action: "Set", source: { file: "a.yaml", line: 13 } }],
    });
    const text = explanationText(explanation);
    expect(text).toMatch(/^ALLOWED/);
    expect(text).toMatch(/With Staged\w+ (shop\/)?x in force it would be DENIED\./);
  });

  test("the rule of the staged policy that would decide", () => {
    const outcome = staged(PODS + calico("StagedGlobalNetworkPolicy", "x", SHUT));
    expect(outcome?.decision).toMatchObject({
      by: "rule",
      object: { kind: "StagedGlobalNetworkPolicy", name: "x" },
      index: 0,
      source: { file: "a.yaml", line: 14 },
      text: "StagedGlobalNetworkPolicy x in tier default: ingress rule 0 denies it at shop/db.",
    });
    expect(outcome?.decision.provenance).toBeUndefined();
  });

  test("Set takes the place of the enforced policy of that name, Delete takes it away", () => {
    const enforced = calico("GlobalNetworkPolicy", "x", SHUT);
    const opened = ask(
      PODS +
        enforced +
        calico("StagedGlobalNetworkPolicy", "x", "{ selector: app == 'db', ingress: [{ action: Allow }] }"),
    );
    expect([opened.verdict, opened.paths[0]?.staged?.verdict]).toEqual(["denied", "allowed"]);
    const gone = ask(PODS + enforced + calico("StagedGlobalNetworkPolicy", "x", "{ stagedAction: Delete }"));
    expect([gone.verdict, gone.paths[0]?.staged?.verdict]).toEqual(["denied", "allowed"]);
    expect(explanationText(gone)).toContain(
      "With deletion by StagedGlobalNetworkPolicy x in force it would be ALLOWED.",
    );
  });

  test("when nothing changes it says so", () => {
    const outcome = ask(
      PODS + calico("StagedGlobalNetworkPolicy", "x", "{ selector: app == 'db', ingress: [{ action: Allow }] }"),
    );
    expect(explanationText(outcome)).toContain("it would still be ALLOWED");
  });
});
