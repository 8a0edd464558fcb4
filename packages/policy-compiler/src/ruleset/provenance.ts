/**
 * The comment in every kernel rule: which rule of which policy made it. The kernel keeps 128 bytes of user data for it,
 * NUL included. Names that do not fit lose their tail and get a hash of the whole instead, so two long names stay apart.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import { policyIdText } from "@calico-ts/dataplane-api";
import { sha256Base64Url } from "@calico-ts/std";

export const MAX_COMMENT = 127;
const HASH_LENGTH = 12;

export type Direction = "ingress" | "egress";

/** `NetworkPolicy/shop/allow-web ingress 0` */
export const policyRuleComment = (id: PolicyId, direction: Direction, index: number): string =>
  fit(policyIdText(id), ` ${direction} ${index}`);

/** `Profile/kns.shop ingress 0` */
export const profileRuleComment = (name: string, direction: Direction, index: number): string =>
  fit(`Profile/${name}`, ` ${direction} ${index}`);

/** `Tier/default ingress default-deny` */
export const tierDefaultComment = (tier: string, direction: Direction): string =>
  fit(`Tier/${tier}`, ` ${direction} default-deny`);

/** Shortens `head` until the two fit. All of it is ASCII: Kubernetes names are. */
export function fit(head: string, tail = ""): string {
  const room = MAX_COMMENT - tail.length;
  const ascii = head.replaceAll(/[^\x20-\x7e]/g, "?");
  if (ascii.length <= room && ascii === head) return head + tail;
  return `${ascii.slice(0, room - HASH_LENGTH - 1)}~${sha256Base64Url(head).slice(0, HASH_LENGTH)}${tail}`;
}
