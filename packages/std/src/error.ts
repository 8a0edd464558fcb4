/**
 * Failures this code base raises on purpose. Codes are API: tests, metrics, exit codes and operators match on them,
 * nobody matches text. Add a code here when a caller has to tell the case apart; otherwise reuse one.
 */
export type ErrorCode =
  | "BAD_INPUT" // text, file or value from outside that does not parse or validate
  | "INTERNAL" // an invariant of ours is broken
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "CONFLICT" // compare-and-swap lost, or resource version too old to update
  | "EXPIRED" // the watch or list continuation is too old: list again
  | "FORBIDDEN"
  | "UNAUTHORIZED"
  | "UNAVAILABLE" // the other side is not there or not ready: try again later
  | "TIMEOUT"
  | "CANCELLED"
  | "KERNEL" // the kernel refused: detail has errno, errnoName, and the extended-ack text when it gave one
  | "NO_PERMISSION" // this process lacks a privilege (root, a capability)
  | "UNSUPPORTED" // this kernel, datastore or build cannot do it; the message names the feature
  | "POOL_EXHAUSTED"
  | "NO_QUALIFIED_POOL"
  | "ADDRESS_TAKEN"
  | "ADDRESS_OUTSIDE_POOLS";

export type ErrorDetail = Readonly<Record<string, string | number | boolean>>;

export interface ErrorContext extends ErrorOptions {
  readonly detail?: ErrorDetail;
}

/** The one error class. `message` is for people (what, where, why, what to do); `code` and `detail` are for programs. */
export class CalicoError extends Error {
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;

  constructor(code: ErrorCode, message: string, context: ErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.name = "CalicoError";
    this.code = code;
    this.detail = context.detail ?? {};
  }
}

/** Also true for errors that crossed a process or worker boundary and came back without their class. */
export function hasCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** One line for a log or a terminal: the message and the messages of its causes. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${errorText(error.cause)}`;
}

/** The `default` of an exhaustive switch: a new variant stops compiling here. */
export function unreachable(value: never): never {
  throw new CalicoError("INTERNAL", `unhandled variant: ${JSON.stringify(value)}`);
}
