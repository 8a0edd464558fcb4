export type { CelOutcome, CelProgram } from "./cel-rules.ts";
export { compileCel, toCel, validateRules } from "./cel-rules.ts";
export { applyDefaults } from "./defaults.ts";
export { parseDuration } from "./duration.ts";
export type { FieldError, FieldErrorType } from "./field-error.ts";
export {
  duplicate,
  fieldErrorBody,
  fieldErrorReason,
  fieldErrorsText,
  fieldErrorText,
  forbidden,
  invalid,
  notFound,
  notSupported,
  required,
  tooLong,
  tooMany,
} from "./field-error.ts";
export { isDateTime, matchesNumberFormat, matchesStringFormat } from "./formats.ts";
export type { LabelOperator, LabelRequirement, Labels } from "./label-selector.ts";
export {
  formatLabelSelector,
  labelSelectorOf,
  matchesLabels,
  matchesRequirement,
  parseLabelSelector,
} from "./label-selector.ts";
export { listKey } from "./list-key.ts";
export { regularExpression } from "./pattern.ts";
export type { PruneOptions } from "./prune.ts";
export { prune } from "./prune.ts";
export type { Quantity, QuantityFormat } from "./quantity.ts";
export { canonicalQuantity, formatQuantity, parseQuantity } from "./quantity.ts";
export type { JsonObject, JsonSchema, JsonType, ValidationRule } from "./schema.ts";
export { cloneJson, fieldPath, indexPath, isObject, keyPath, sameJson, setField, splitPath } from "./schema.ts";
export type { ValidateOptions } from "./validate.ts";
export { validate } from "./validate.ts";
export type { SourcePosition, YamlDocument } from "./yaml.ts";
export { formatPosition, parseYamlDocuments } from "./yaml.ts";
