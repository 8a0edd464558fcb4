/**
 * START HERE. The CNI executables `calico` and `calico-ipam`: one program, told apart by its name.
 *
 * A pod start pays for this process every time, so it knows nothing: it parses the CNI environment and standard input, hands the
 * request to the agent over its root-only Unix socket, and prints the agent's answer (CNI specification 1.1.0, section 2).
 * It holds no token and reads no file. A DEL that finds no agent is written down for the agent to finish (`deferred-delete.ts`)
 * and answered at once, since the runtime would otherwise keep the pod forever.
 */
import { CniError } from "./cni-error.ts";
import { ask } from "./agent-socket.ts";
import type { CniRequest } from "./request.ts";
import { answerVersion, readRequest, SUPPORTED_VERSIONS } from "./request.ts";
import { readStandardInput, writeStandardError, writeStandardOutput } from "./standard-streams.ts";

async function main(): Promise<number> {
  const name = process.argv0.slice(process.argv0.lastIndexOf("/") + 1);
  const program = name.startsWith("calico-ipam") ? "calico-ipam" : "calico";
  if (process.argv.includes("-v") || process.argv.includes("--version")) {
    await writeStandardOutput("calico-ts CNI plugin 0.1.0\n");
    return 0;
  }
  let cniVersion: string = "1.1.0";
  try {
    requireRuntime();
    const input = await readStandardInput();
    cniVersion = answerVersion(input);
    const request = readRequest(program, process.env, input);
    if (request.command === "VERSION") {
      await writeStandardOutput(`${JSON.stringify({ cniVersion, supportedVersions: SUPPORTED_VERSIONS })}\n`);
      return 0;
    }
    const output = await perform(request);
    if (output !== undefined) await writeStandardOutput(`${JSON.stringify(output)}\n`);
    return 0;
  } catch (error) {
    const { code, message, details } = CniError.from(error);
    await writeStandardOutput(
      `${JSON.stringify({ cniVersion, code, msg: message, ...(details !== "" && { details }) })}\n`,
    );
    return 1;
  }
}

async function perform(request: CniRequest): Promise<unknown> {
  try {
    return await ask(request);
  } catch (error) {
    const failure = CniError.from(error);
    if (request.command === "STATUS" && failure.agentAbsent) throw new CniError(50, failure.message);
    if (request.command !== "DEL" || failure.code !== 11 || !failure.agentAbsent) throw failure;
    const { deferDelete } = await import("./deferred-delete.ts");
    await deferDelete(request);
    return undefined;
  }
}

/** Before standard input is read: by hand, that would be a terminal where nobody ends it. */
function requireRuntime(): void {
  if (process.env["CNI_COMMAND"] !== undefined) return;
  throw new CniError(
    4,
    "this is a CNI plugin: a container runtime starts it, with CNI_COMMAND and others in the environment and a network configuration on standard input",
  );
}

try {
  process.exitCode = await main();
} catch (error) {
  // Standard output takes nothing: the exit code is the answer.
  await writeStandardError(
    `calico: the result cannot be written: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}
