/** Shaping in memory: what is on a link goes with it. */
import type { Qdisc, QdiscPlace, TokenBucket } from "@calico-ts/netlink";
import type { Shaping } from "../kernel.ts";
import { ERRNO, kernelError } from "../libc.ts";

export class FakeShaping implements Shaping {
  readonly #exists: (link: number) => boolean;
  readonly #roots = new Map<number, Qdisc>();
  readonly #redirects = new Map<number, number>();

  constructor(exists: (link: number) => boolean) {
    this.#exists = exists;
  }

  list(): Qdisc[] {
    const ingresses = [...this.#redirects.keys()].map(
      (link): Qdisc => ({ link, handle: 0xffff, place: "ingress", kind: "ingress" }),
    );
    return [...this.#roots.values(), ...ingresses].filter(({ link }) => this.#exists(link));
  }

  setBucket(link: number, handle: number, bucket: TokenBucket): void {
    this.#require(link, "limit a link");
    const { rate, limit, peakRate, burst } = bucket;
    if (burst < 1 || (peakRate !== undefined && peakRate <= rate)) {
      throw kernelError({ errno: ERRNO.EINVAL, operation: "limit a link" });
    }
    const told = { rate, limit, ...(peakRate === undefined ? {} : { peakRate }) };
    this.#roots.set(link, { link, handle, place: "root", kind: "tbf", bucket: told });
  }

  redirect(link: number, target: number): void {
    for (const one of [link, target]) this.#require(one, "redirect a link");
    this.#redirects.set(link, target);
  }

  redirectOf(link: number): number | undefined {
    return this.#exists(link) ? this.#redirects.get(link) : undefined;
  }

  remove(link: number, place: QdiscPlace): boolean {
    return this.#exists(link) && (place === "root" ? this.#roots : this.#redirects).delete(link);
  }

  #require(link: number, operation: string): void {
    if (!this.#exists(link)) throw kernelError({ errno: ERRNO.ENODEV, operation });
  }
}
