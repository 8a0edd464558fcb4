import fc from "fast-check";
import { expect, test } from "vitest";
import { keyOf, type KubeObject } from "../meta/object.ts";
import { Store } from "./store.ts";

const object = (name: string, value: number): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: name < "c" ? "x" : "y" },
  value,
});

/** Random writes: any past state read back from history equals the state there was, and so does replaying events. */
test("history: past lists and replayed watches agree with what was", () => {
  const step = fc.record({ name: fc.constantFrom("a", "b", "c", "d", "e"), remove: fc.boolean(), value: fc.nat(9) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 5, max: 50 }), (steps, watchWindow) => {
      const store = new Store({ watchWindow });
      const collection = store.collection("/configmaps");
      const states = new Map<number, string>([[store.revision, "[]"]]);
      const show = (list: readonly { readonly key: string; readonly object: KubeObject }[]): string =>
        JSON.stringify(list.map((stored) => [stored.key, stored.object["value"]]));
      for (const { name, remove, value } of steps) {
        const wanted = object(name, value);
        if (!remove) store.put("/configmaps", wanted);
        else if (collection.get(keyOf(wanted)) !== undefined) store.remove("/configmaps", keyOf(wanted));
        states.set(store.revision, show(collection.list(undefined)));
      }
      for (const [revision, state] of states) {
        const past = collection.listAt(revision, undefined);
        expect(past === "expired").toBe(revision < collection.oldestRevision);
        if (past === "expired") continue;
        expect(show(past)).toBe(state);
        const events = collection.since(revision);
        expect(events).not.toBe("expired");
        const replayed = new Map(past.map((stored) => [stored.key, stored]));
        for (const event of events === "expired" ? [] : events) {
          if (event.type === "DELETED") replayed.delete(event.current.key);
          else replayed.set(event.current.key, event.current);
        }
        expect(show([...replayed.values()].toSorted((a, b) => (a.key < b.key ? -1 : 1)))).toBe(
          show(collection.list(undefined)),
        );
      }
      expect(show(collection.list("x"))).toBe(
        show(collection.list(undefined).filter((stored) => stored.key.startsWith("x/"))),
      );
    }),
  );
});
