/** A refusal as the CNI specification numbers it (1.1.0, section 5): the executables print it as it is. */
export class CniFailure extends Error {
  /** 3 unknown container, 4 environment, 5 I/O, 7 invalid configuration, 11 try again later, 50 not available; 100 and up ours. */
  readonly code: number;
  readonly details: string | undefined;

  constructor(code: number, message: string, details?: string) {
    super(message);
    this.name = "CniFailure";
    this.code = code;
    this.details = details;
  }
}

export const INVALID_ENVIRONMENT = 4;
export const INVALID_CONFIG = 7;
export const TRY_AGAIN_LATER = 11;
export const NOT_AVAILABLE = 50;
/** No address could be assigned: nothing the runtime can retry away quickly. */
export const NO_ADDRESS = 101;
/** The kernel refused a step. */
export const KERNEL_REFUSED = 102;
/** CHECK found something that is not as ADD left it. */
export const CHECK_FAILED = 103;
