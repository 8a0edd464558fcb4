import { describe, expect, test } from "vitest";
import { Informer } from "./informer.ts";
import type { KubeObject } from "./objects.ts";

const object = (name: string, version: number, uid = name): KubeObject => ({
  metadata: { name, uid, resourceVersion: String(version) },
});

function watched(): { readonly informer: Informer<KubeObject>; readonly seen: string[] } {
  const informer = new Informer<KubeObject>();
  const seen: string[] = [];
  informer.onChange(({ key, before, after }) => {
    seen.push(`${key} ${before?.metadata.resourceVersion ?? "-"}→${after?.metadata.resourceVersion ?? "-"}`);
  });
  return { informer, seen };
}

describe("an informer", () => {
  test("a write of ours counts at once and its event is no news", () => {
    const { informer, seen } = watched();
    informer.assume(object("a", 5));
    informer.apply("ADDED", object("a", 5));
    informer.apply("MODIFIED", object("a", 4));
    expect(seen).toEqual(["a -→5"]);
  });

  test("an object we deleted does not come back through older events", () => {
    const { informer, seen } = watched();
    informer.apply("ADDED", object("a", 1));
    informer.assumeGone("a", "a");
    informer.apply("MODIFIED", object("a", 2));
    informer.apply("DELETED", object("a", 3));
    informer.apply("ADDED", object("a", 4, "second"));
    expect(seen).toEqual(["a -→1", "a 1→-", "a -→4"]);
  });

  test("a list after a broken watch announces the difference and keeps newer writes of ours", () => {
    const { informer, seen } = watched();
    for (const name of ["a", "b", "c"]) informer.apply("ADDED", object(name, 1));
    informer.assume(object("mine", 9));
    seen.length = 0;
    informer.replace([object("a", 1), object("b", 7)], "8");
    expect(seen).toEqual(["b 1→7", "c 1→-"]);
    expect([...informer.keys()].toSorted()).toEqual(["a", "b", "mine"]);
  });

  test("indices follow changes", () => {
    const informer = new Informer<KubeObject>();
    informer.addIndex("label", (each) => [each.metadata.labels?.["l"] ?? ""]);
    const labelled = (version: number, l: string): KubeObject => ({
      metadata: { name: "a", uid: "a", resourceVersion: String(version), labels: { l } },
    });
    informer.apply("ADDED", labelled(1, "x"));
    informer.apply("MODIFIED", labelled(2, "y"));
    expect(informer.byIndex("label", "x")).toEqual([]);
    expect(informer.byIndex("label", "y")).toHaveLength(1);
    informer.apply("DELETED", labelled(3, "y"));
    expect(informer.byIndex("label", "y")).toEqual([]);
  });
});
