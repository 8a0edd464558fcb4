/** `IP_AUTODETECTION_METHOD`: the text as a value (inventory §9.2). */
import type { Prefix } from "@calico-ts/net";
import { tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";

export type DetectionMethod =
  | { readonly kind: "first-found" }
  | { readonly kind: "kubernetes-internal-ip" }
  /** The source address the kernel would use towards a destination (an address or a name). */
  | { readonly kind: "can-reach"; readonly destination: string }
  /** Interfaces by regular expressions, tried in the order given. */
  | { readonly kind: "interface"; readonly patterns: readonly RegExp[] }
  | { readonly kind: "skip-interface"; readonly patterns: readonly RegExp[] }
  | { readonly kind: "cidr"; readonly prefixes: readonly Prefix[] };

/** @throws CalicoError BAD_INPUT */
export function parseDetectionMethod(text: string, variable: string): DetectionMethod {
  const at = text.indexOf("=");
  const name = at < 0 ? text : text.slice(0, at);
  const value = at < 0 ? "" : text.slice(at + 1).trim();
  if (name === "" || name === "first-found") return { kind: "first-found" };
  if (name === "kubernetes-internal-ip") return { kind: "kubernetes-internal-ip" };
  if (value === "") throw wrong(variable, text, `"${name}=" needs a value`);
  if (name === "can-reach") return { kind: "can-reach", destination: value };
  if (name === "interface" || name === "skip-interface") {
    return { kind: name, patterns: value.split(",").map((part) => pattern(part.trim(), variable, text)) };
  }
  if (name === "cidr") {
    const prefixes = value.split(",").map((part) => {
      const prefix = tryParsePrefix(part.trim(), "mask");
      if (prefix === undefined) throw wrong(variable, text, `"${part}" is not a CIDR`);
      return prefix;
    });
    return { kind: "cidr", prefixes };
  }
  throw wrong(
    variable,
    text,
    "known methods: first-found, can-reach=, interface=, skip-interface=, cidr=, kubernetes-internal-ip",
  );
}

export const isAddress = (text: string): boolean => tryParseAddress(text) !== undefined;

function pattern(text: string, variable: string, all: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw wrong(variable, all, `"${text}" is not a regular expression`, error);
  }
}

function wrong(variable: string, text: string, why: string, cause?: unknown): CalicoError {
  return new CalicoError("BAD_INPUT", `${variable}="${text}": ${why}`, { cause });
}
