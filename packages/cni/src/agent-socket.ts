/** One request, one answer, over the agent's Unix socket. */
import { CniError } from "./cni-error.ts";
import { exchangeLine, ExchangeTimeout } from "./line-exchange.ts";
import type { CniRequest } from "./request.ts";
import { socketPath } from "./request.ts";

/** Container runtimes give a plugin minutes; an agent that says nothing for this long will not. */
const ANSWER_TIMEOUT_MS = 90_000;

/** The CNI result, or undefined where the command has none. @throws CniError what the agent said, or 11 when it does not answer */
export async function ask(request: CniRequest): Promise<unknown> {
  const path = socketPath(request.config);
  let answer: string;
  try {
    answer = await exchangeLine({ path, line: `${JSON.stringify(request)}\n`, timeoutMs: ANSWER_TIMEOUT_MS });
  } catch (error) {
    throw noAnswer(path, error);
  }
  try {
    return readAnswer(answer);
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw unreachable(path, "closed the connection without a complete answer", false);
  }
}

function noAnswer(path: string, error: unknown): CniError {
  if (error instanceof ExchangeTimeout) {
    return unreachable(path, `did not answer within ${ANSWER_TIMEOUT_MS / 1000} s`, false);
  }
  const { code, message } = error as NodeJS.ErrnoException;
  const absent = code === "ENOENT" || code === "ECONNREFUSED";
  return unreachable(path, absent ? "is not running" : `cannot be reached: ${message}`, absent);
}

const unreachable = (path: string, why: string, agentAbsent: boolean): CniError =>
  new CniError(
    11,
    `the calico agent on this node ${why} (socket ${path}); is the calico-node pod of this node running and ready?`,
    { agentAbsent },
  );

function readAnswer(text: string): unknown {
  const answer = JSON.parse(text) as {
    readonly ok: boolean;
    readonly result?: unknown;
    readonly error?: { readonly code: number; readonly msg: string; readonly details?: string };
  };
  if (answer.ok) return answer.result;
  const { code = 999, msg = "the agent failed without a reason", details } = answer.error ?? {};
  throw new CniError(code, msg, details === undefined ? {} : { details });
}
