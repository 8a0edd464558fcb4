/** Interface addresses ↔ RTM_*ADDR messages (linux/if_addr.h). */
import { type Family, formatAddress, type IpAddress, sameAddress } from "@calico-ts/net";
import { type AttributeTable, address, optional, readTable, text, u32, writeTable } from "../codec/attributes.ts";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, viewOf } from "../codec/reader.ts";
import { familyNumber, modeFlags, RTM, type RouteRequest, type WriteMode } from "./request.ts";
import type { LinkAddress, LinkAddressSpec } from "./values.ts";

const IFA_F_NODAD = 0x02;
const IFA_F_NOPREFIXROUTE = 0x200;

interface WireAddress {
  /** The other end of a point-to-point link; else the same as `local`. */
  readonly address?: IpAddress;
  readonly local?: IpAddress;
  readonly label?: string;
  readonly broadcast?: IpAddress;
  readonly flags?: number;
}
const addressTable: AttributeTable<WireAddress> = {
  address: optional(1, address),
  local: optional(2, address),
  label: optional(3, text),
  broadcast: optional(4, address),
  flags: optional(8, u32),
};

/** Undefined for what is no address message. @throws CalicoError BAD_INPUT for malformed data. */
export function readLinkAddress(message: MessageView): LinkAddress | undefined {
  if (message.type !== RTM.NEWADDR && message.type !== RTM.DELADDR) return undefined;
  const view = viewOf(need(message.body, 8));
  const wire = readTable(addressTable, message.body.subarray(8));
  const own = wire.local ?? wire.address;
  if (own === undefined) return undefined;
  const peer = wire.local !== undefined && wire.address !== undefined && !sameAddress(wire.local, wire.address);
  return {
    link: view.getUint32(4, LITTLE_ENDIAN_HOST),
    address: own,
    prefixLength: view.getUint8(1),
    ...(peer && wire.address !== undefined ? { peer: wire.address } : {}),
    ...(wire.broadcast === undefined ? {} : { broadcast: wire.broadcast }),
    ...(wire.label === undefined ? {} : { label: wire.label }),
    scope: view.getUint8(3),
    flags: wire.flags ?? view.getUint8(2),
  };
}

const describe = (spec: LinkAddressSpec): string =>
  `address ${formatAddress(spec.address)}/${spec.prefixLength} of link ${spec.link}`;

function request(spec: LinkAddressSpec, how: Pick<RouteRequest, "type" | "flags" | "operation">): RouteRequest {
  return {
    ...how,
    body(out) {
      out.u8(familyNumber(spec.address.family));
      out.u8(spec.prefixLength);
      out.u8(0);
      out.u8(spec.scope ?? 0);
      out.u32(spec.link);
      const flags = (spec.noDad === true ? IFA_F_NODAD : 0) | (spec.noPrefixRoute === true ? IFA_F_NOPREFIXROUTE : 0);
      writeTable<WireAddress>(out, addressTable, {
        address: spec.peer ?? spec.address,
        local: spec.address,
        ...(spec.label === undefined ? {} : { label: spec.label }),
        ...(spec.broadcast === undefined ? {} : { broadcast: spec.broadcast }),
        ...(flags === 0 ? {} : { flags }),
      });
    },
  };
}

export const writeLinkAddress = (spec: LinkAddressSpec, mode: WriteMode): RouteRequest =>
  request(spec, { type: RTM.NEWADDR, flags: NLM_F.ACK | modeFlags(mode), operation: `${mode} ${describe(spec)}` });

export const deleteLinkAddress = (spec: LinkAddressSpec): RouteRequest =>
  request(spec, { type: RTM.DELADDR, flags: NLM_F.ACK, operation: `delete ${describe(spec)}` });

export const dumpLinkAddresses = (filter: { readonly family?: Family; readonly link?: number }): RouteRequest => ({
  type: RTM.GETADDR,
  flags: NLM_F.DUMP,
  operation: "list addresses",
  body(out) {
    out.u8(familyNumber(filter.family));
    out.u8(0);
    out.u8(0);
    out.u8(0);
    out.u32(filter.link ?? 0);
  },
});
