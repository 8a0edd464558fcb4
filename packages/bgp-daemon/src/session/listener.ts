/** One place where peers may connect to, with the passwords of those that have one. The kernel drops what is not signed as it should be before we hear of it. */
import { type AcceptedTcp, acceptTcp, interfaceName, listenTcp, setTcpPassword } from "@calico-ts/linux";
import { formatAddress, type IpAddress } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import { errorText } from "@calico-ts/std";
import type { ConnectTo, ListenAt } from "./terms.ts";

export class Listener implements Disposable {
  readonly #fd: number;
  readonly #family: 4 | 6;
  readonly #log: Logger;
  readonly #accepting: Disposable;
  /** By the address in text: what the kernel has been told. */
  readonly #passwords = new Map<string, { readonly address: IpAddress; readonly password: string }>();

  /** @throws CalicoError KERNEL (EADDRINUSE, EADDRNOTAVAIL, …) */
  constructor(
    at: ListenAt & { readonly netns?: string },
    log: Logger,
    onConnection: (connection: AcceptedTcp) => void,
  ) {
    const { interface: device, ...place } = at;
    this.#family = at.address.family;
    this.#log = log;
    // Peers with TTL security must hear our answer to their SYN; each connection gets its own TTL afterwards.
    this.#fd = listenTcp({ ...place, ...(device !== undefined && { device }), ttl: 255 });
    this.#accepting = acceptTcp(this.#fd, onConnection, (error) =>
      log.error("bgp.accept.failed", { at: formatAddress(at.address), error: errorText(error) }),
    );
  }

  /** The passwords of these peers and no others from now on. Connections that stand are not touched. */
  setPasswords(peers: Iterable<ConnectTo>): void {
    const wanted = new Map<string, { readonly address: IpAddress; readonly password: string }>();
    for (const { address, password } of peers) {
      if (password === undefined || address.family !== this.#family) continue;
      const id = formatAddress(address);
      const other = wanted.get(id);
      if (other === undefined) wanted.set(id, { address, password });
      else if (other.password !== password) {
        // The kernel knows one per address (RFC 2385 has no key ids).
        this.#log.error("bgp.password.conflict", {
          peer: id,
          why: "two peers with this address have different passwords",
        });
      }
    }
    for (const [id, { address }] of this.#passwords) {
      if (wanted.has(id)) continue;
      setTcpPassword(this.#fd, address, undefined);
      this.#passwords.delete(id);
    }
    for (const [id, { address, password }] of wanted) {
      if (this.#passwords.get(id)?.password === password) continue;
      try {
        setTcpPassword(this.#fd, address, password);
        this.#passwords.set(id, { address, password });
      } catch (error) {
        this.#passwords.delete(id);
        this.#log.error("bgp.password.failed", { peer: id, error: errorText(error) });
      }
    }
  }

  /** Whether connections from this address are checked against a password. */
  guards(address: IpAddress): boolean {
    return this.#passwords.has(formatAddress(address));
  }

  interfaceName(link: number): string | undefined {
    try {
      return interfaceName(this.#fd, link);
    } catch {
      return undefined; // gone since
    }
  }

  [Symbol.dispose](): void {
    this.#accepting[Symbol.dispose]();
  }
}
