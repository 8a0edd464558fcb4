/** Terms for the CEL rules: upstream writes "not set" in two ways, by absence and by an empty value, and both count. */

/** The text or list field is absent or empty. */
export const empty = (field: string): string => `(!has(self.${field}) || size(self.${field}) == 0)`;
export const filled = (field: string): string => `(has(self.${field}) && size(self.${field}) > 0)`;
export const isTrue = (field: string): string => `(has(self.${field}) && self.${field})`;
export const absent = (field: string): string => `!has(self.${field})`;

/** At most one of two text or list fields is filled. */
export const notBoth = (a: string, b: string): string => `${empty(a)} || ${empty(b)}`;

/** `global()` has a meaning only in the namespace selector of a rule. */
export const noGlobal = (field: string): string => `!has(self.${field}) || !self.${field}.contains('global(')`;
