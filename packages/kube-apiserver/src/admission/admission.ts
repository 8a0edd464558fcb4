/**
 * The admission chain of a write: namespace check, built-in mutations, mutating webhooks one after the other, and,
 * after validation, validating webhooks all at once. Nothing waits when no webhook is concerned.
 */
import { isObject } from "@calico-ts/schema";
import { errorText } from "@calico-ts/std";
import jsonPatch, { type Operation as PatchOperation } from "fast-json-patch";
import type { Admission, AdmissionRequest, ApiCore } from "../core.ts";
import { ApiError, internalError } from "../meta/api-error.ts";
import { asNumber, asObject, asText, type KubeObject } from "../meta/object.ts";
import { checkNamespace, mutateBuiltin } from "./builtin.ts";
import { callWebhook, type Verdict } from "./webhook-call.ts";
import { type MatchedWebhook, matchingWebhooks } from "./webhook-match.ts";

export const admission: Admission = {
  async mutate(core, request) {
    checkNamespace(core, request);
    mutateBuiltin(core, request);
    let object = request.object;
    const again: MatchedWebhook[] = [];
    let changedSince = false;
    for (const matched of matchingWebhooks(core, request, "mutatingwebhookconfigurations")) {
      const next = await mutateOnce(core, { ...request, object }, matched);
      if (next !== object) {
        object = next;
        changedSince = again.length > 0;
      }
      if (matched.webhook["reinvocationPolicy"] === "IfNeeded") again.push(matched);
    }
    if (changedSince) for (const matched of again) object = await mutateOnce(core, { ...request, object }, matched);
    return object;
  },

  async validate(core, request) {
    const webhooks = matchingWebhooks(core, request, "validatingwebhookconfigurations");
    if (webhooks.length === 0) return false;
    await Promise.all(
      webhooks.map(async (matched) => {
        const verdict = await ask(core, request, matched);
        if (verdict !== undefined) refuseUnlessAllowed(verdict, matched);
      }),
    );
    return true;
  },
};

async function mutateOnce(
  core: ApiCore,
  request: AdmissionRequest,
  matched: MatchedWebhook,
): Promise<KubeObject | undefined> {
  const { object } = request;
  if (object === undefined) return object;
  const verdict = await ask(core, request, matched);
  if (verdict === undefined) return object;
  refuseUnlessAllowed(verdict, matched);
  if (verdict.patch === undefined || verdict.patch.length === 0) return object;
  try {
    const patched: unknown = jsonPatch.applyPatch(
      structuredClone(object),
      verdict.patch as PatchOperation[],
      true,
      false,
    ).newDocument;
    if (isObject(patched) && isObject(patched["metadata"])) return patched as KubeObject;
  } catch (error) {
    throw internalError(`failed to apply the patch of webhook ${JSON.stringify(matched.name)}: ${errorText(error)}`);
  }
  throw internalError(`the patch of webhook ${JSON.stringify(matched.name)} does not yield an object`);
}

/** Undefined: the webhook failed and does not matter. */
async function ask(core: ApiCore, request: AdmissionRequest, matched: MatchedWebhook): Promise<Verdict | undefined> {
  try {
    const verdict = await callWebhook(core, matched.webhook, request);
    for (const warning of verdict.warnings) request.warn(warning);
    return verdict;
  } catch (error) {
    if (matched.webhook["failurePolicy"] === "Ignore") return undefined;
    throw internalError(
      `failed calling webhook ${JSON.stringify(matched.name)}: failed to call webhook: ${errorText(error)}`,
    );
  }
}

function refuseUnlessAllowed(verdict: Verdict, matched: MatchedWebhook): void {
  if (verdict.allowed) return;
  const status = asObject(verdict.status);
  const code = asNumber(status["code"]) ?? 0;
  const denied = `admission webhook ${JSON.stringify(matched.name)} denied the request`;
  const message = asText(status["message"]);
  const reason = asText(status["reason"]);
  const text =
    message !== "" ? `${denied}: ${message}` : reason !== "" ? `${denied}: ${reason}` : `${denied} without explanation`;
  throw new ApiError(code < 400 ? 400 : code, reason, text);
}
