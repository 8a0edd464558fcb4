/** metav1.Time: RFC 3339 with whole seconds. */
export const timestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** metav1.MicroTime, as Leases carry it. */
export const microTimestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, -1)}000Z`;
