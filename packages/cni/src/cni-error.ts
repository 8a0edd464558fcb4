/**
 * An error as a CNI plugin reports it (CNI specification 1.1.0, section 5, "Error"): 4 environment, 5 I/O, 6 undecodable, 7 invalid
 * configuration, 11 try again later, 50 plugin not available, 100 and up ours.
 */
export class CniError extends Error {
  readonly code: number;
  readonly details: string;
  /** Nobody listens on the agent's socket; as opposed to an agent that answered "not ready". */
  readonly agentAbsent: boolean;

  constructor(code: number, message: string, options: { details?: string; agentAbsent?: boolean } = {}) {
    super(message);
    this.name = "CniError";
    this.code = code;
    this.details = options.details ?? "";
    this.agentAbsent = options.agentAbsent ?? false;
  }

  static from(error: unknown): CniError {
    if (error instanceof CniError) return error;
    return new CniError(999, error instanceof Error ? error.message : String(error));
  }
}
