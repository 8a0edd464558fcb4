/** Names of records and who owns them: part of the model, because datastores need them too. */
export {
  AFFINITY_TYPE_LABEL,
  affinityLabels,
  affinityName,
  affinitySelector,
  type AffinityType,
  blockName,
  cleanHandle,
  handleName,
  hostnameHash,
  hostOwner,
  type Owner,
  ownerText,
  parseOwner,
} from "@calico-ts/model";
