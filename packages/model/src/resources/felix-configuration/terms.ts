/** What several keys of FelixConfiguration share. */
import { cel, checks, integer, object, opt, text } from "../../schema/builders.ts";
import type { Note } from "../../schema/builders.ts";

/**
 * Whole numbers with units only ("90s", "1h30m"): upstream's pattern escapes its decimal point twice, so "1.5s" is refused
 * there and must be refused here, or a manifest that works on one does not on the other.
 */
export const duration = (note: Note = {}) => text({ pattern: "^([0-9]+(\\\\.[0-9]+)?(ms|s|m|h))*$", ...note });

/** The same with a working decimal point; one key has it. */
export const fractionalDuration = (note: Note = {}) => text({ pattern: "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))*$", ...note });

export const conntrackTimeout = () => opt(text({ pattern: "^(([0-9]*(\\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$" }));

export const protoPort = object({
  port: integer(),
  protocol: opt(text({ description: "TCP or UDP. Default: TCP." })),
  net: opt(text({ description: "Only from or to this prefix." })),
});

export const routeTableRange = object(
  { min: integer(), max: integer() },
  {
    description: "Deprecated: use routeTableRanges.",
    ...checks(
      cel(
        "1 <= self.min && self.min <= self.max && self.max <= 250",
        "route table indices are 1 to 250, min up to max",
      ),
    ),
  },
);

export const routeTableIdRange = object(
  { min: integer(), max: integer() },
  checks(cel("self.min >= 1", "route table indices start at 1"), cel("self.max >= self.min", "min is above max")),
);
