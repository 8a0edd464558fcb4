/**
 * Refusals as Kubernetes Status objects. Texts, reasons, causes and codes are those of the API server, since
 * clients show the text and act on reason and code.
 */
import { CalicoError, type ErrorCode } from "@calico-ts/std";
import { type FieldError, fieldErrorBody, fieldErrorReason, fieldErrorsText, type JsonObject } from "@calico-ts/schema";

export interface StatusCause {
  readonly reason?: string;
  readonly message: string;
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

export interface Status {
  readonly kind: "Status";
  readonly apiVersion: "v1";
  readonly metadata: JsonObject;
  readonly status: "Success" | "Failure";
  readonly message?: string;
  readonly reason?: string;
  readonly details?: StatusDetails;
  readonly code?: number;
}

const CODES: { readonly [http: number]: ErrorCode } = {
  401: "UNAUTHORIZED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  409: "CONFLICT",
  410: "EXPIRED",
  500: "INTERNAL",
  503: "UNAVAILABLE",
  504: "TIMEOUT",
};

export class ApiError extends CalicoError {
  readonly status: Status;

  constructor(code: number, reason: string, message: string, details?: StatusDetails) {
    super(reason === "AlreadyExists" ? "ALREADY_EXISTS" : (CODES[code] ?? "BAD_INPUT"), message);
    this.name = "ApiError";
    this.status = {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message,
      ...(reason === "" ? {} : { reason }),
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

/** Group and plural of a resource, as error texts and details name it. */
export interface ResourceName {
  readonly group: string;
  readonly plural: string;
}

const qualified = (resource: ResourceName): string =>
  resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;

const about = (resource: ResourceName, name: string): StatusDetails => ({
  ...(name === "" ? {} : { name }),
  ...(resource.group === "" ? {} : { group: resource.group }),
  kind: resource.plural,
});

export const notFoundError = (resource: ResourceName, name: string): ApiError =>
  new ApiError(404, "NotFound", `${qualified(resource)} ${JSON.stringify(name)} not found`, about(resource, name));

export const alreadyExistsError = (resource: ResourceName, name: string): ApiError =>
  new ApiError(
    409,
    "AlreadyExists",
    `${qualified(resource)} ${JSON.stringify(name)} already exists`,
    about(resource, name),
  );

export const conflictError = (resource: ResourceName, name: string, why: string): ApiError =>
  new ApiError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(resource)} ${JSON.stringify(name)}: ${why}`,
    about(resource, name),
  );

export const STALE = "the object has been modified; please apply your changes to the latest version and try again";

export const forbiddenError = (resource: ResourceName, name: string, why: string): ApiError =>
  new ApiError(
    403,
    "Forbidden",
    name === ""
      ? `${qualified(resource)} is forbidden: ${why}`
      : `${qualified(resource)} ${JSON.stringify(name)} is forbidden: ${why}`,
    about(resource, name),
  );

export const badRequest = (message: string): ApiError => new ApiError(400, "BadRequest", message);

export const expiredError = (message: string): ApiError => new ApiError(410, "Expired", message);

export const methodNotAllowed = (resource: ResourceName, verb: string): ApiError =>
  new ApiError(
    405,
    "MethodNotAllowed",
    `${verb} is not supported on resources of kind ${JSON.stringify(qualified(resource))}`,
    about(resource, ""),
  );

export const internalError = (why: string): ApiError =>
  new ApiError(500, "InternalError", `Internal error occurred: ${why}`, { causes: [{ message: why }] });

export const tooLargeResourceVersion = (asked: string, current: string): ApiError =>
  new ApiError(504, "Timeout", `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });

/** The answer for a path nothing serves. */
export const pathNotFound = (): ApiError =>
  new ApiError(404, "NotFound", "the server could not find the requested resource", {});

export function invalidError(
  kind: { readonly group: string; readonly kind: string },
  name: string,
  errors: readonly FieldError[],
): ApiError {
  const title = kind.group === "" ? kind.kind : `${kind.kind}.${kind.group}`;
  return new ApiError(422, "Invalid", `${title} ${JSON.stringify(name)} is invalid: ${fieldErrorsText(errors)}`, {
    ...(name === "" ? {} : { name }),
    ...(kind.group === "" ? {} : { group: kind.group }),
    kind: kind.kind,
    causes: errors.map((error) => ({
      reason: fieldErrorReason(error),
      message: fieldErrorBody(error),
      field: error.path === "" ? "<nil>" : error.path,
    })),
  });
}

export const successStatus = (details?: StatusDetails): Status => ({
  kind: "Status",
  apiVersion: "v1",
  metadata: {},
  status: "Success",
  ...(details === undefined ? {} : { details }),
});
