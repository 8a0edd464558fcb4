/** `ipam configure`: changes what is given and leaves the rest. */
import { Ipam } from "@calico-ts/ipam";
import { CalicoError } from "@calico-ts/std";
import type { Session } from "./session.ts";

export interface ConfigureOptions {
  readonly strictaffinity?: string;
  readonly maxBlocksPerHost?: string;
  readonly ipCooldownSeconds?: string;
  readonly kubevirtIpPersistence?: string;
}

export async function configure({ client, clock, out }: Session, options: ConfigureOptions): Promise<void> {
  const ipam = new Ipam({ client, clock });
  const before = await ipam.config();
  const said: string[] = [];
  const note = <T>(name: string, value: T): T => {
    said.push(`Successfully set ${name} to: ${String(value)}\n`);
    return value;
  };
  const { strictaffinity: strict, maxBlocksPerHost: blocks, ipCooldownSeconds: seconds } = options;
  const persistence = options.kubevirtIpPersistence;
  if (strict === undefined && blocks === undefined && seconds === undefined && persistence === undefined) {
    throw new CalicoError(
      "BAD_INPUT",
      "say what to configure: --strictaffinity, --max-blocks-per-host, --ip-cooldown-seconds, --kubevirt-ip-persistence",
    );
  }
  await ipam.setConfig({
    ...before,
    ...(strict === undefined ? {} : { strictAffinity: note("StrictAffinity", flag("--strictaffinity", strict)) }),
    ...(blocks === undefined
      ? {}
      : { maxBlocksPerHost: note("MaxBlocksPerHost", count("--max-blocks-per-host", blocks)) }),
    ...(seconds === undefined
      ? {}
      : { cooldownSeconds: note("IPCooldownSeconds", count("--ip-cooldown-seconds", seconds)) }),
    ...(persistence === undefined
      ? {}
      : { machinesKeepAddresses: note("KubeVirtVMAddressPersistence", mode(persistence)) === "Enabled" }),
  });
  for (const line of said) out(line);
}

function mode(text: string): "Enabled" | "Disabled" {
  if (text === "Enabled" || text === "Disabled") return text;
  throw new CalicoError("BAD_INPUT", `--kubevirt-ip-persistence must be Enabled or Disabled, not "${text}"`);
}

/** Go's ways to write a truth value, as upstream takes them. */
const FLAGS: Readonly<Record<"true" | "false", readonly string[]>> = {
  true: ["1", "t", "T", "TRUE", "true", "True"],
  false: ["0", "f", "F", "FALSE", "false", "False"],
};

function flag(name: string, text: string): boolean {
  if (FLAGS.true.includes(text)) return true;
  if (FLAGS.false.includes(text)) return false;
  throw new CalicoError("BAD_INPUT", `${name} must be true or false, not "${text}"`);
}

function count(name: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new CalicoError("BAD_INPUT", `${name} must be a number that is not negative, not "${text}"`);
}
