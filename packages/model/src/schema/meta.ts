/** `metadata` of every object, and the small Kubernetes types several kinds share. */
import { Type } from "typebox";
import type { TypeOf } from "./builders.ts";
import {
  ATOMIC_MAP,
  anything,
  integer,
  keyedList,
  list,
  object,
  OPEN,
  opt,
  plainList,
  stringMap,
  text,
  word,
} from "./builders.ts";

const ownerReference = object(
  {
    apiVersion: text(),
    kind: text(),
    name: text(),
    uid: text(),
    controller: opt(Type.Boolean()),
    blockOwnerDeletion: opt(Type.Boolean()),
  },
  ATOMIC_MAP,
);

export const objectMetaSchema = object(
  {
    name: text(),
    generateName: opt(text()),
    namespace: opt(text()),
    uid: opt(text()),
    resourceVersion: opt(text()),
    generation: opt(integer()),
    creationTimestamp: opt(text({ nullable: true })),
    deletionTimestamp: opt(text({ nullable: true })),
    deletionGracePeriodSeconds: opt(integer()),
    labels: opt(stringMap()),
    annotations: opt(stringMap()),
    ownerReferences: opt(plainList(ownerReference)),
    finalizers: opt(plainList(text())),
    managedFields: opt(plainList(anything())),
  },
  OPEN,
);

export type ObjectMeta = TypeOf<typeof objectMetaSchema>;
export type OwnerReference = TypeOf<typeof ownerReference>;

const labelSelectorRequirement = object({
  key: text(),
  operator: text({ description: "In, NotIn, Exists or DoesNotExist." }),
  values: opt(list(text())),
});

export const labelSelectorSchema = (description: string) =>
  object(
    { matchExpressions: opt(list(labelSelectorRequirement)), matchLabels: opt(stringMap()) },
    { ...ATOMIC_MAP, description },
  );

/** Kubernetes' own selector. Both parts must hold; an empty selector selects everything. */
export type LabelSelector = TypeOf<ReturnType<typeof labelSelectorSchema>>;

export const secretKeyRefSchema = object(
  {
    secretKeyRef: opt(
      object(
        {
          key: text({ description: "The key in the Secret." }),
          name: opt(text({ default: "", description: "The Secret's name." })),
          optional: opt(Type.Boolean({ description: "Whether the Secret or the key may be missing." })),
        },
        ATOMIC_MAP,
      ),
    ),
  },
  { description: "Where the value is read from." },
);

const condition = object({
  type: text({
    maxLength: 316,
    pattern:
      "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
  }),
  status: word(["True", "False", "Unknown"]),
  reason: text({ minLength: 1, maxLength: 1024, pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$" }),
  message: text({ maxLength: 32_768 }),
  lastTransitionTime: text({ format: "date-time" }),
  observedGeneration: opt(integer({ format: "int64", minimum: 0 })),
});

export const conditionsSchema = keyedList(condition, ["type"], {
  description: "What is known about the object's state, one entry per type.",
});

export type Condition = TypeOf<typeof condition>;
