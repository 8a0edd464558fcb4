/**
 * A route's priority is its metric in the kernel of a node, and travels between nodes as LOCAL_PREF = 2³¹ − 1 − metric, as upstream carries it: the smallest metric is
 * the most preferred, and so is the greatest LOCAL_PREF.
 */
const METRIC_BASE = 2_147_483_647;
/** Greatest metric that has a LOCAL_PREF of at least 1. */
export const MAX_METRIC = METRIC_BASE - 1;

export const localPrefOf = (metric: number): number => METRIC_BASE - metric;
/** At least 1, since 0 is the kernel's word for the most preferred route of all. */
export const metricOf = (localPref: number): number => Math.max(1, METRIC_BASE - localPref);
