/** On what terms connections with a peer are made, and what a change of terms does to a connection that stands. */
import { setTcpPassword, setTcpTtl, type TcpTerms, resetTcpTtl } from "@calico-ts/linux";
import { type IpAddress, sameAddress } from "@calico-ts/net";

export interface ListenAt {
  readonly address: IpAddress;
  readonly port: number;
  /** Only connections that come in here; a link-local address needs it. */
  readonly interface?: string;
  /** The address may come later: it is somebody else's to put there. */
  readonly freeBind?: boolean;
}

/** How one peer is reached, and what its connections have to prove, whoever opens them. */
export interface ConnectTo {
  readonly address: IpAddress;
  /** Where the peer listens. */
  readonly port: number;
  /** Our end of connections that we open; absent: the kernel chooses. */
  readonly sourceAddress?: IpAddress;
  /** A link-local peer is reached through an interface, and known by it. */
  readonly interface?: string;
  /** Segments are signed with it (RFC 2385); 1 to 80 bytes of UTF-8. A new one takes effect on standing connections. */
  readonly password?: string;
  /** 1 to 254: packets that may have come over more hops than this are dropped, and ours leave with TTL 255 (RFC 5082). */
  readonly ttlSecurityHops?: number;
  /** TTL of our packets, 1 to 255, without TTL security; absent: the kernel's default. */
  readonly ttl?: number;
}

/** TTL security is a TTL of 255 on one side and its check on the other (RFC 5082 section 3); BIRD and Calico count hops the same way: 1 is a neighbour. */
export function termsOf({ password, ttlSecurityHops, ttl }: ConnectTo): TcpTerms {
  return {
    ...(password !== undefined && { password }),
    ...(ttlSecurityHops !== undefined ? { ttl: 255, minTtl: 256 - ttlSecurityHops } : ttl !== undefined && { ttl }),
  };
}

/** Whether a connection that was opened the one way is as good as one opened the other way. */
export function sameWay(a: ConnectTo, b: ConnectTo): boolean {
  const [from, to] = [a.sourceAddress, b.sourceAddress];
  const sameSource = from === undefined || to === undefined ? from === to : sameAddress(from, to);
  return sameSource && sameAddress(a.address, b.address) && a.port === b.port && a.interface === b.interface;
}

/** Brings the terms of a standing connection up to date. @throws CalicoError as `setTcpPassword` */
export function rekey(fd: number, before: ConnectTo, after: ConnectTo): void {
  const { address } = after;
  if (before.password !== after.password) setTcpPassword(fd, address, after.password);
  if (before.ttlSecurityHops === after.ttlSecurityHops && before.ttl === after.ttl) return;
  resetTcpTtl(fd, address.family);
  setTcpTtl(fd, address.family, termsOf(after));
}
