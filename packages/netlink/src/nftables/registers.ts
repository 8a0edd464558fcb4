/**
 * nf_tables registers. The kernel has sixteen 32-bit registers, named 8–23 (NFT_REG32_00…15); 1–4 are older names for
 * groups of four of them. A dump uses the old name wherever one begins, so register 8 comes back as 1.
 */
import { CalicoError } from "@calico-ts/std";
import type { NftRegister } from "./values.ts";

const SLOTS = 16;

/** The name a dump uses for the n-th 32-bit register, n from 0. */
export function registerAt(slot: number): NftRegister {
  if (!Number.isInteger(slot) || slot < 0 || slot >= SLOTS) {
    throw new CalicoError(
      "BAD_INPUT",
      `nf_tables has ${SLOTS} registers; number ${slot} does not exist (key too long?)`,
    );
  }
  return slot % 4 === 0 ? slot / 4 + 1 : slot + 8;
}

/** The same register under the name a dump uses. 0, the verdict register, stays. */
export function canonicalRegister(register: NftRegister): NftRegister {
  return register >= 8 && register < 8 + SLOTS ? registerAt(register - 8) : register;
}
