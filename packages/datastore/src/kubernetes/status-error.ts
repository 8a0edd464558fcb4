/** From an API server's refusal (HTTP status and a `Status` object) to an error of ours. The only place that does it. */
import { CalicoError, type ErrorCode } from "@calico-ts/std";

export interface StatusBody {
  readonly message?: string | undefined;
  readonly reason?: string | undefined;
  readonly code?: number | undefined;
  readonly details?: {
    readonly name?: string | undefined;
    readonly retryAfterSeconds?: number | undefined;
    readonly causes?: readonly { readonly reason?: string; readonly message?: string; readonly field?: string }[];
  };
}

/** `what` is the request in words: "update IPAMBlock 10-0-0-0-26". */
export function statusError(
  what: string,
  http: { readonly status: number; readonly retryAfterMs?: number | undefined },
  body: StatusBody,
): CalicoError {
  const code = errorCode(http.status, body);
  const retryAfterMs = http.retryAfterMs ?? secondsToMs(body.details?.retryAfterSeconds);
  const text = body.message ?? body.reason ?? `HTTP ${http.status}`;
  return new CalicoError(code, `${what}: ${text}${hint(code, http.status)}`, {
    detail: {
      httpStatus: http.status,
      ...(body.reason === undefined ? {} : { reason: body.reason }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    },
  });
}

function errorCode(status: number, body: StatusBody): ErrorCode {
  switch (status) {
    case 400:
    case 406:
    case 413:
    case 415:
    case 422:
      return "BAD_INPUT";
    case 401:
      return "UNAUTHORIZED";
    case 403:
      return "FORBIDDEN";
    case 404:
      // Without a name in the details it is the resource type, or the path, that is unknown: its CRD may come yet.
      return body.details?.name === undefined || body.details.name === "" ? "UNAVAILABLE" : "NOT_FOUND";
    case 405:
      return "UNSUPPORTED";
    case 409:
      return body.reason === "AlreadyExists" ? "ALREADY_EXISTS" : "CONFLICT";
    case 410:
      return "EXPIRED";
    default:
      return status === 408 || status === 429 || status >= 500 ? "UNAVAILABLE" : "INTERNAL";
  }
}

function hint(code: ErrorCode, status: number): string {
  if (code === "UNAVAILABLE" && status === 404) return " (does the cluster have this resource type? apply the CRDs)";
  if (code === "FORBIDDEN") return " (the role of this service account or user does not allow it)";
  return "";
}

/** The body of a refusal; anything that is no Status object is quoted. */
export function parseStatusBody(text: string): StatusBody {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "message" in value && typeof value.message === "string") {
      return value as StatusBody;
    }
  } catch {
    // Proxies and load balancers answer with text or HTML.
  }
  const shortened = text.trim().slice(0, 200);
  return shortened === "" ? {} : { message: shortened };
}

/** HTTP Retry-After in its seconds form; the date form is not used by API servers. */
export function retryAfterHeaderMs(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : undefined;
}

const secondsToMs = (seconds: number | undefined): number | undefined =>
  seconds === undefined || seconds <= 0 ? undefined : seconds * 1000;
