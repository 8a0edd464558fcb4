/** `calicoctl node`: upstream's commands about the node it runs on. */
import type { Command } from "commander";
import { openBgpDaemon } from "../bgp/daemon.ts";
import { nodeStatus } from "../bgp/node-status.ts";
import type { CommandContext } from "../command.ts";

export function addNode(program: Command, { terminal }: CommandContext): void {
  const node = program.command("node").description("about the node this runs on").copyInheritedSettings(program);
  node
    .command("status")
    .description("whether Calico runs on this node, and its BGP sessions (as root)")
    .copyInheritedSettings(program)
    .option("--allow-version-mismatch", "taken for scripts written for upstream; versions are not compared")
    .action(async () => {
      const daemon = openBgpDaemon(terminal.env["CALICO_HOST_ROOT"] || "/");
      terminal.out(await nodeStatus(daemon, Date.now()));
    });
}
