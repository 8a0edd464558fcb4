export type { SelectorNode, SetOperator, ValueOperator } from "./ast.ts";
export type { LabelSource } from "./evaluate.ts";
export type { LabelRestriction, LabelRestrictions } from "./restrictions.ts";
export type { EntitySelectors, PolicySelectors } from "./rewrite.ts";
export {
  andSelectors,
  entitySelector,
  globalPolicySelector,
  NAMESPACE_LABEL,
  NAMESPACE_LABEL_PREFIX,
  networkPolicySelector,
  prefixLabels,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_LABEL_PREFIX,
} from "./rewrite.ts";
export { hashedId, parseSelector, Selector } from "./selector.ts";
