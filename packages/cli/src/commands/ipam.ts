/** `calicoctl ipam`: upstream's commands with upstream's options, and `explain`, which is ours. What each does is a file in `ipam/`. */
import { readFileSync, writeFileSync } from "node:fs";
import { systemClock } from "@calico-ts/runtime";
import type { Command } from "commander";
import type { CommandContext } from "../command.ts";
import { check, type CheckOptions } from "../ipam/check.ts";
import { configure, type ConfigureOptions } from "../ipam/configure.ts";
import { explain } from "../ipam/explain.ts";
import { forecast, type ForecastOptions } from "../ipam/forecast.ts";
import { release, type ReleaseOptions } from "../ipam/release.ts";
import type { Session } from "../ipam/session.ts";
import { show, type ShowOptions } from "../ipam/show.ts";
import { split, type SplitOptions } from "../ipam/split.ts";
import { openDatastore } from "../open-datastore.ts";

export function addIpam(program: Command, { terminal }: CommandContext): void {
  const ipam = command(program, "ipam", "IP address management");
  const perform = async (run: (session: Session) => Promise<void>, kubeconfig?: string): Promise<void> => {
    const env = kubeconfig === undefined ? terminal.env : { ...terminal.env, KUBECONFIG: kubeconfig };
    await using client = await openDatastore({ ...terminal, env });
    await run({
      client,
      clock: systemClock,
      out: (text) => terminal.out(text.replace(/\n$/, "")),
      readFile: (path) => readFileSync(path, "utf8"),
      writeFile: (path, text) => writeFileSync(path, text),
    });
  };
  command(ipam, "show", "how full pools are, or details of one address")
    .option("--ip <address>", "who has this address")
    .option("--show-blocks", "each pool's blocks too")
    .option("--show-borrowed", "addresses nodes have from blocks of others")
    .option("--show-configuration", "the configuration of address management")
    .action((options: ShowOptions) => perform((session) => show(session, options)));
  command(ipam, "check", "looks for addresses that are lost, used twice or counted wrongly")
    .option("--show-all-ips", "every address that is assigned")
    .option("--show-problem-ips", "every address with a problem")
    .option("-o, --output <file>", "a report for release --from-report")
    .option("--kubeconfig <file>", "the cluster of this file, instead of KUBECONFIG's")
    .action((options: CheckOptions & { readonly kubeconfig?: string }) =>
      perform((session) => check(session, options), options.kubeconfig),
    );
  command(ipam, "release", "gives an address back that nobody uses any more")
    .option("--ip <address>", "this address, whoever has it")
    .option("--from-report <file>", "the leaks of a report; of several: what all of them call a leak", collect)
    .option("--force", "also when the report may be out of date")
    .action((options: ReleaseOptions) => perform((session) => release(session, options)));
  const settings = command(ipam, "configure", "changes the configuration of address management")
    .option("--strictaffinity <bool>", "nodes never borrow from blocks of others")
    .option("--max-blocks-per-host <count>", "blocks a node may own; 0: the default")
    .option("--ip-cooldown-seconds <count>", "how long a released address rests")
    .option("--kubevirt-ip-persistence <mode>", "Enabled or Disabled: a virtual machine keeps its address")
    .action((options: ConfigureOptions) => perform((session) => configure(session, options)));
  command(settings, "show", "the configuration of address management").action(() =>
    perform((session) => show(session, { showConfiguration: true })),
  );
  command(ipam, "split", "makes smaller pools of one, while the datastore is locked")
    .argument("<number>", "how many: a power of two")
    .option("--cidr <cidr>", "the pool with this CIDR")
    .option("--name <pool>", "the pool of this name")
    .action((number: string, options: SplitOptions) => perform((session) => split(session, number, options)));
  command(ipam, "forecast", "when each pool will be full")
    .option("--window <duration>", "how far back to look; default 24h")
    .action((options: ForecastOptions) => perform((session) => forecast(session, options)));
  command(ipam, "explain", "who has an address, since when, and why it is not released")
    .argument("<address>")
    .action((address: string) => perform((session) => explain(session, address)));
}

const command = (parent: Command, name: string, about: string): Command =>
  parent.command(name).description(about).copyInheritedSettings(parent);

const collect = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];
