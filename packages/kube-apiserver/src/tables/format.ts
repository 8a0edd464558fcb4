/** Texts of table cells: ages and durations the way `kubectl get` shows them, label selectors, lists. */
import { asObject, asText, asTextMap } from "../meta/object.ts";
import { formatLabelSelector, labelSelectorOf } from "@calico-ts/schema";

/** 45s, 3m20s, 5h, 2d3h, 400d: fewer units the longer it is. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000);
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.trunc(seconds / 60);
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.trunc(minutes / 60);
  if (hours < 8) return minutes % 60 === 0 ? `${hours}h` : `${hours}h${minutes % 60}m`;
  if (hours < 48) return `${hours}h`;
  if (hours < 192) return hours % 24 === 0 ? `${hours / 24}d` : `${Math.trunc(hours / 24)}d${hours % 24}h`;
  if (hours < 24 * 365 * 2) return `${Math.trunc(hours / 24)}d`;
  const days = Math.trunc(hours / 24);
  const years = Math.trunc(days / 365);
  return hours < 24 * 365 * 8 && days % 365 !== 0 ? `${years}y${days % 365}d` : `${years}y`;
}

/** How long ago an RFC 3339 text was. */
export function ageOf(text: unknown, now: number): string {
  const then = Date.parse(asText(text));
  return Number.isNaN(then) ? "<unknown>" : humanDuration(now - then);
}

export function selectorText(selector: unknown): string {
  const text = formatLabelSelector(labelSelectorOf(selector) ?? []);
  return text === "" ? "<none>" : text;
}

export function labelsText(labels: unknown): string {
  const pairs = Object.entries(asTextMap(asObject(labels)))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? "<none>" : pairs.join(",");
}

export const orNone = (text: string): string => (text === "" ? "<none>" : text);

/** At most three items, then how many more. */
export function firstThree(items: readonly string[]): string {
  if (items.length === 0) return "<none>";
  return items.length <= 3 ? items.join(",") : `${items.slice(0, 3).join(",")} + ${items.length - 3} more...`;
}
