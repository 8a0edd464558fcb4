import { CalicoError } from "@calico-ts/std";

/** Six bytes from `aa:bb:cc:dd:ee:ff`. @throws CalicoError BAD_INPUT */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new CalicoError("BAD_INPUT", `not a MAC address: "${text}"`);
  }
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

/** Lower-case, colon-separated. */
export const formatMac = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
