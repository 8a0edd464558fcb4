import { expect, test } from "vitest";
import { policyChain, safeName } from "./names.ts";
import { MAX_COMMENT, policyRuleComment } from "./provenance.ts";

const id = (name: string) => ({ kind: "KubernetesNetworkPolicy", namespace: "n".repeat(63), name }) as const;

test("a comment names kind, namespace, name, direction and index", () => {
  expect(policyRuleComment({ kind: "GlobalNetworkPolicy", namespace: "", name: "g" }, "egress", 3)).toBe(
    "GlobalNetworkPolicy/g egress 3",
  );
});

test("what the kernel has no room for becomes a hash, and direction and index stay", () => {
  const one = policyRuleComment(id(`${"a".repeat(200)}1`), "ingress", 1023);
  const other = policyRuleComment(id(`${"a".repeat(200)}2`), "ingress", 1023);
  expect(one).toHaveLength(MAX_COMMENT);
  expect(one).toMatch(/^KubernetesNetworkPolicy\/n+\/a+~[\w-]{12} ingress 1023$/);
  expect(one).not.toBe(other);
});

test("names of chains stay within the kernel's 255 bytes and what nft can read", () => {
  const names = ["a".repeat(253), `${"a".repeat(252)}b`].map((name) => policyChain(id(name), "ingress"));
  for (const name of names) expect(name).toMatch(/^[a-z][\w/.-]{1,229}$/);
  expect(names[0]).not.toBe(names[1]);
  expect(safeName("set", "a:b")).not.toBe(safeName("set", "a;b"));
});
