/**
 * A map from prefixes to values that answers longest-prefix-match questions, both families side by side.
 *
 * A binary trie with its one-way paths left out: a node exists for each stored prefix and for each place where two stored
 * prefixes part, so n entries take at most 2n nodes and a question visits at most as many nodes as the answer has nested
 * prefixes around it. Removing an entry removes the nodes it needed. Iteration is in the order of `comparePrefixes`.
 */
import type { Family, IpAddress } from "./address.ts";
import { addressBits } from "./address.ts";
import type { Prefix } from "./prefix.ts";
import { containsPrefix, hostPrefix, prefixAddress, prefixOf, samePrefix } from "./prefix.ts";

interface TrieNode<V> {
  readonly prefix: Prefix;
  /** Absent where prefixes only part. */
  entry: { readonly value: V } | undefined;
  /** By the first bit after this node's prefix. */
  readonly children: [TrieNode<V> | undefined, TrieNode<V> | undefined];
}

export type PrefixEntry<V> = readonly [prefix: Prefix, value: V];

export class PrefixTrie<V> {
  readonly #roots = new Map<Family, TrieNode<V>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(prefix: Prefix): V | undefined {
    return this.#find(prefix)?.value;
  }

  has(prefix: Prefix): boolean {
    return this.#find(prefix) !== undefined;
  }

  set(prefix: Prefix, value: V): void {
    let node = this.#root(prefix.family);
    while (node.prefix.length < prefix.length) {
      const side = bitAt(prefix, node.prefix.length);
      const child: TrieNode<V> | undefined = node.children[side];
      if (child === undefined) {
        node = node.children[side] = newNode(prefix);
      } else if (containsPrefix(child.prefix, prefix)) {
        node = child;
      } else {
        node = node.children[side] = part(child, prefix);
      }
    }
    if (node.entry === undefined) this.#size++;
    node.entry = { value };
  }

  /** True when it was there. */
  delete(prefix: Prefix): boolean {
    const path = this.#path(prefix);
    const node = path.pop();
    if (node?.entry === undefined || !samePrefix(node.prefix, prefix)) return false;
    node.entry = undefined;
    this.#size--;
    // A node without an entry stays only where two ways part; so at most this one and the one above go.
    let below = node;
    for (const parent of path.toReversed()) {
      if (below.entry !== undefined) break;
      const [zero, one] = below.children;
      if (zero !== undefined && one !== undefined) break;
      parent.children[bitAt(below.prefix, parent.prefix.length)] = zero ?? one;
      below = parent;
    }
    return true;
  }

  clear(): void {
    this.#roots.clear();
    this.#size = 0;
  }

  /** The most specific entry that contains the address. */
  longestMatch(address: IpAddress): PrefixEntry<V> | undefined {
    const prefix = hostPrefix(address);
    let best: PrefixEntry<V> | undefined;
    let node = this.#roots.get(prefix.family);
    while (node !== undefined && containsPrefix(node.prefix, prefix)) {
      if (node.entry !== undefined) best = [node.prefix, node.entry.value];
      if (node.prefix.length === prefix.length) break;
      node = node.children[bitAt(prefix, node.prefix.length)];
    }
    return best;
  }

  /** Every entry that contains the prefix (the prefix itself included), least specific first. */
  covering(prefix: Prefix): PrefixEntry<V>[] {
    return this.#path(prefix).flatMap((node) =>
      node.entry === undefined ? [] : [[node.prefix, node.entry.value] as const],
    );
  }

  /** Every entry inside the prefix (the prefix itself included), in order. */
  *covered(prefix: Prefix): IterableIterator<PrefixEntry<V>> {
    const last = this.#path(prefix).at(-1);
    if (last === undefined) return;
    if (samePrefix(last.prefix, prefix)) {
      yield* walk(last);
      return;
    }
    const child = last.children[bitAt(prefix, last.prefix.length)];
    if (child !== undefined && containsPrefix(prefix, child.prefix)) yield* walk(child);
  }

  *entries(): IterableIterator<PrefixEntry<V>> {
    for (const family of [4, 6] as const) {
      const root = this.#roots.get(family);
      if (root !== undefined) yield* walk(root);
    }
  }

  [Symbol.iterator](): IterableIterator<PrefixEntry<V>> {
    return this.entries();
  }

  #root(family: Family): TrieNode<V> {
    const root = this.#roots.get(family) ?? newNode<V>({ family, value: 0n, length: 0 });
    this.#roots.set(family, root);
    return root;
  }

  #find(prefix: Prefix): { readonly value: V } | undefined {
    const last = this.#path(prefix).at(-1);
    return last !== undefined && last.prefix.length === prefix.length ? last.entry : undefined;
  }

  /** The nodes that contain the prefix, from the root down. */
  #path(prefix: Prefix): TrieNode<V>[] {
    const path: TrieNode<V>[] = [];
    let node = this.#roots.get(prefix.family);
    while (node !== undefined && containsPrefix(node.prefix, prefix)) {
      path.push(node);
      if (node.prefix.length === prefix.length) break;
      node = node.children[bitAt(prefix, node.prefix.length)];
    }
    return path;
  }
}

const newNode = <V>(prefix: Prefix): TrieNode<V> => ({ prefix, entry: undefined, children: [undefined, undefined] });

/** A node above `child` for the longest prefix it has in common with `prefix`. */
function part<V>(child: TrieNode<V>, prefix: Prefix): TrieNode<V> {
  const bits = addressBits(prefix.family);
  const different = child.prefix.value ^ prefix.value;
  const sameBits = different === 0n ? bits : bits - different.toString(2).length;
  const node = newNode<V>(prefixOf(prefixAddress(prefix), Math.min(sameBits, prefix.length, child.prefix.length)));
  node.children[bitAt(child.prefix, node.prefix.length)] = child;
  return node;
}

/** The bit after the first `position` bits. */
function bitAt(prefix: Prefix, position: number): 0 | 1 {
  const shift = BigInt(addressBits(prefix.family) - 1 - position);
  return ((prefix.value >> shift) & 1n) === 1n ? 1 : 0;
}

function* walk<V>(node: TrieNode<V>): IterableIterator<PrefixEntry<V>> {
  if (node.entry !== undefined) yield [node.prefix, node.entry.value];
  for (const child of node.children) if (child !== undefined) yield* walk(child);
}
