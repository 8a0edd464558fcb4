/**
 * Metrics declared as one table per program (name, kind, help, labels) and registered on a registry that is passed in,
 * so two programs or two tests in one process do not share counters. The table also feeds the reference page.
 *
 * A door of its own (`@calico-ts/runtime/metrics`): prom-client costs 36 ms and 20 MB that most importers do not need.
 */
import { Counter, Gauge, Histogram, Registry, Summary } from "prom-client";

export type MetricSpec =
  | { readonly kind: "counter" | "gauge"; readonly help: string; readonly labels?: readonly string[] }
  | {
      readonly kind: "histogram";
      readonly help: string;
      readonly labels?: readonly string[];
      readonly buckets: readonly number[];
    }
  | {
      readonly kind: "summary";
      readonly help: string;
      readonly labels?: readonly string[];
      readonly percentiles?: readonly number[];
    };

export type MetricTable = Readonly<Record<string, MetricSpec>>;

interface MetricOf {
  readonly counter: Counter;
  readonly gauge: Gauge;
  readonly histogram: Histogram;
  readonly summary: Summary;
}

export type Metrics<T extends MetricTable> = { readonly [Name in keyof T]: MetricOf[T[Name]["kind"]] };

export const createMetricsRegistry = (): Registry => new Registry();

export function registerMetrics<const T extends MetricTable>(registry: Registry, table: T): Metrics<T> {
  const made = Object.entries(table).map(([name, spec]) => [name, register(registry, name, spec)] as const);
  return Object.fromEntries(made) as unknown as Metrics<T>;
}

function register(registry: Registry, name: string, spec: MetricSpec): Counter | Gauge | Histogram | Summary {
  const common = { name, help: spec.help, labelNames: [...(spec.labels ?? [])], registers: [registry] };
  switch (spec.kind) {
    case "counter":
      return new Counter(common);
    case "gauge":
      return new Gauge(common);
    case "histogram":
      return new Histogram({ ...common, buckets: [...spec.buckets] });
    case "summary":
      return new Summary({
        ...common,
        percentiles: [...(spec.percentiles ?? [0.5, 0.9, 0.99])],
        maxAgeSeconds: 600,
        ageBuckets: 5,
      });
  }
}
