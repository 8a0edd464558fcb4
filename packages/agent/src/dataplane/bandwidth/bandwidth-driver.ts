/**
 * How fast pods may send and receive: a token bucket on the host's end of the pair holds back what goes to the pod; what comes from it is sent through a
 * helper device (`ifb`) with a bucket of its own, out of the pod's reach.
 *
 * Ours are buckets under the handle `ca11:` and helpers whose alias names the interface they serve; a bucket that somebody else put on a pod's interface (the CNI
 * plugin `bandwidth`) is left alone until the pod asks for limits itself. Limits a kernel cannot keep are reported by name (`problems`) and
 * hold up nothing.
 */
import type { Kernel } from "@calico-ts/linux";
import type { Link, Qdisc, TokenBucket } from "@calico-ts/netlink";
import type { Logger } from "@calico-ts/runtime";
import { errorText, sha1Hex } from "@calico-ts/std";
import { isErrno } from "../routes/route-driver.ts";
import { bucketOfDevice } from "./token-bucket.ts";

/** Seen from the pod. */
export interface Limits {
  readonly ingress?: TokenBucket;
  readonly egress?: TokenBucket;
}

export const BUCKET_HANDLE = 0xca11;
const HELPER_ALIAS = "calico limits ";

export const helperName = (interfaceName: string): string => `bw${sha1Hex(interfaceName).slice(0, 11)}`;

export class BandwidthDriver {
  readonly #kernel: Pick<Kernel, "links" | "shaping">;
  readonly #log: Logger;
  readonly #wanted = new Map<string, Limits>();
  /** Helper → the interface it serves. */
  readonly #helpers = new Map<string, string>();
  readonly #dirty = new Set<string>();
  /** Interface → what was written last: the kernel does not tell bursts. */
  readonly #written = new Map<string, string>();
  readonly #problems = new Map<string, string>();
  /** What an earlier process left is looked for once, and again at every refresh. */
  #resync = true;

  constructor(options: { readonly kernel: Pick<Kernel, "links" | "shaping">; readonly log: Logger }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
  }

  want(interfaceName: string, limits: Limits | undefined): void {
    const none = limits === undefined || (limits.ingress === undefined && limits.egress === undefined);
    if (none && !this.#wanted.has(interfaceName)) return;
    if (none) {
      this.#wanted.delete(interfaceName);
      this.#helpers.delete(helperName(interfaceName));
    } else {
      this.#wanted.set(interfaceName, limits);
      this.#helpers.set(helperName(interfaceName), interfaceName);
    }
    this.#problems.delete(interfaceName);
    this.#dirty.add(interfaceName);
  }

  /** A link came, changed or went: a pod's, or a helper. */
  touched(linkName: string): void {
    const name = this.#helpers.get(linkName) ?? linkName;
    if (this.#wanted.has(name)) this.#dirty.add(name);
  }

  markForResync(): void {
    this.#resync = true;
    this.#problems.clear();
  }

  /** Interface → why its limits are not kept. */
  problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }

  apply(): void {
    if (this.#resync) this.#findLeftovers();
    const failures: unknown[] = [];
    for (const name of Array.from(this.#dirty)) {
      try {
        if (!this.#problems.has(name)) this.#applyOne(name);
        this.#dirty.delete(name);
      } catch (error) {
        if (isErrno(error, "ENOENT", "EOPNOTSUPP", "ENOTSUP")) {
          this.#problems.set(name, `this kernel cannot limit ${name}: ${errorText(error)}`);
          this.#log.error("bandwidth.unsupported", { interface: name, error });
          this.#dirty.delete(name);
        } else if (isErrno(error, "ENODEV")) {
          this.#dirty.delete(name); // gone meanwhile: a new interface of that name brings us back
        } else {
          failures.push(error);
        }
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  dump(): unknown {
    return { desired: Object.fromEntries(this.#wanted), problems: Object.fromEntries(this.#problems) };
  }

  #findLeftovers(): void {
    const { links, shaping } = this.#kernel;
    for (const { alias } of links.list({ kind: "ifb" })) {
      if (alias?.startsWith(HELPER_ALIAS) === true) this.#dirty.add(alias.slice(HELPER_ALIAS.length));
    }
    for (const qdisc of shaping.list()) {
      const name = isOurs(qdisc) ? links.get(qdisc.link)?.name : undefined;
      if (name !== undefined && !name.startsWith("bw")) this.#dirty.add(name);
    }
    for (const name of this.#wanted.keys()) this.#dirty.add(name);
    this.#resync = false;
  }

  #applyOne(name: string): void {
    const { links, shaping } = this.#kernel;
    const link = links.get(name);
    const limits = (link === undefined ? undefined : this.#wanted.get(name)) ?? {}; // a helper without its interface is of no use
    const helper = this.#helper(name, limits.egress === undefined ? undefined : link);
    if (link !== undefined) {
      if (limits.ingress !== undefined) this.#setBucket(link, limits.ingress);
      else if (this.#rootOf(link) !== undefined) shaping.remove(link.index, "root");
    }
    if (helper === undefined) return;
    if (limits.egress === undefined) {
      if (link !== undefined && shaping.redirectOf(link.index) === helper.index) shaping.remove(link.index, "ingress");
      links.delete(helper.index);
      this.#written.delete(helper.name);
    } else if (link !== undefined) {
      this.#setBucket(helper, limits.egress);
      if (shaping.redirectOf(link.index) !== helper.index) shaping.redirect(link.index, helper.index);
    }
  }

  /** The helper of an interface; made for `serves`, if it is not there. */
  #helper(name: string, serves: Link | undefined): Link | undefined {
    const { links } = this.#kernel;
    const made = helperName(name);
    const there = links.get(made);
    if (there?.alias === HELPER_ALIAS + name && there.up) return there;
    if (serves === undefined) return there?.alias === HELPER_ALIAS + name ? there : undefined;
    if (there === undefined) {
      links.create({ kind: "other", type: "ifb", name: made, mtu: serves.mtu });
      this.#log.info("bandwidth.helper_made", { interface: name, helper: made });
    }
    links.set(made, { alias: HELPER_ALIAS + name, up: true });
    return links.get(made);
  }

  #setBucket(link: Link, wanted: TokenBucket): void {
    const bucket = bucketOfDevice(wanted, link.mtu);
    const text = `${link.index} ${JSON.stringify(bucket)}`;
    const have = this.#rootOf(link)?.bucket;
    const same = have?.rate === bucket.rate && have.limit === bucket.limit && have.peakRate === bucket.peakRate;
    if (same && this.#written.get(link.name) === text) return;
    this.#kernel.shaping.setBucket(link.index, BUCKET_HANDLE, bucket);
    this.#written.set(link.name, text);
  }

  #rootOf(link: Link): Qdisc | undefined {
    return this.#kernel.shaping.list().find((qdisc) => qdisc.link === link.index && isOurs(qdisc));
  }
}

const isOurs = (qdisc: Qdisc): boolean => qdisc.place === "root" && qdisc.handle === BUCKET_HANDLE;
