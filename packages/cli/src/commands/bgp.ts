/** `calicoctl bgp` (ours alone): what the BGP daemon of this node knows, and why. Asks the daemon's socket; needs root. */
import type { PeerReport, RoutedFamily } from "@calico-ts/bgp";
import { CalicoError } from "@calico-ts/std";
import { type Command, Option } from "commander";
import { type BgpDaemonClient, openBgpDaemon } from "../bgp/daemon.ts";
import { explanationLines } from "../bgp/explain.ts";
import { peerType, routesTable, sinceText } from "../bgp/text.ts";
import type { CommandContext } from "../command.ts";
import { formatTable } from "../table.ts";
import type { Terminal } from "../terminal.ts";

interface OutputOptions {
  readonly json?: boolean;
  readonly output?: "json" | "ps";
}
interface RoutesOptions extends OutputOptions {
  readonly family?: "ipv4" | "ipv6";
}

export function addBgp(program: Command, { terminal, setExit }: CommandContext): void {
  const daemon = openBgpDaemon(terminal.env["CALICO_HOST_ROOT"] || "/");
  const bgp = program
    .command("bgp")
    .description("what the BGP daemon of this node knows (as root)")
    .copyInheritedSettings(program);
  const show = bgp.command("show").description("peers and routes").copyInheritedSettings(program);
  const withOutput = (command: Command): Command =>
    command
      .copyInheritedSettings(program)
      .option("--json", "for programs")
      .addOption(new Option("-o, --output <format>", "ps (a table) or json").choices(["ps", "json"]));
  const family = (): Option => new Option("--family <family>", "of one family only").choices(["ipv4", "ipv6"]);

  withOutput(show.command("peers").description("sessions, and why one is not up")).action(
    async (options: OutputOptions) => {
      const peers = await daemon.ask({ command: "peers" });
      print(terminal, options, peers, () => peersTable(peers));
      const { problems } = await daemon.ask({ command: "status" });
      for (const problem of problems) terminal.note(`not in force: ${problem}`);
    },
  );
  withOutput(show.command("routes").description("the best routes").addOption(family())).action(
    async (options: RoutesOptions) => {
      const routes = await daemon.ask({ command: "routes", ...familyOf(options) });
      print(terminal, options, routes, () => routesTable(routes));
    },
  );
  for (const [what, about] of [
    ["received", "what a peer told us, refused routes included"],
    ["advertised", "what a peer was told"],
  ] as const) {
    withOutput(show.command(what).description(about))
      .argument("[peer]", "name or address; all peers when it is left out")
      .addOption(family())
      .action(async (peer: string | undefined, options: RoutesOptions) => {
        const tables = await eachPeer(daemon, peer, (name) =>
          daemon.ask({ command: what, peer: name, ...familyOf(options) }),
        );
        print(terminal, options, Object.fromEntries(tables), () =>
          tables.map(([name, routes]) => `${name}\n${routesTable(routes)}`).join("\n"),
        );
      });
  }
  withOutput(
    bgp
      .command("explain")
      .description("candidates for a prefix, the step that decided, and what filters did to each")
      .argument("<destination>", "a prefix, or an address for the route that packets to it take"),
  ).action(async (destination: string, options: OutputOptions) => {
    const explanation = await daemon.ask({ command: "explain", destination });
    if (explanation === null) {
      setExit(1);
      print(terminal, options, null, () => `${destination}: no peer told us of it, and it is none of our own routes`);
    } else print(terminal, options, explanation, () => explanationLines(explanation, terminal.colors));
  });
}

const familyOf = ({ family }: RoutesOptions): { readonly family?: RoutedFamily } =>
  family === undefined ? {} : { family: `${family}-unicast` };

async function eachPeer<T>(
  daemon: BgpDaemonClient,
  peer: string | undefined,
  get: (name: string) => Promise<T>,
): Promise<(readonly [string, T])[]> {
  if (peer !== undefined) return [[peer, await get(peer)]];
  const peers = await daemon.ask({ command: "peers" });
  if (peers.length === 0) throw new CalicoError("NOT_FOUND", "this node has no BGP peers");
  const tables: (readonly [string, T])[] = [];
  for (const { name } of peers) tables.push([name, await get(name)]);
  return tables;
}

function print(terminal: Terminal, { json, output }: OutputOptions, value: unknown, text: () => string): void {
  terminal.out(json === true || output === "json" ? JSON.stringify(value) : text());
}

function peersTable(peers: readonly PeerReport[]): string {
  const now = Date.now();
  const rows = peers.map((peer) => [
    peer.name,
    peer.address,
    peerType(peer.name),
    String(peer.remoteAs),
    peer.state,
    sinceText(peer.since, now),
    peer.routes.map(({ received }) => received).join("/"),
    remarksOf(peer),
  ]);
  return formatTable(["NAME", "ADDRESS", "TYPE", "AS", "STATE", "SINCE", "RECEIVED", "REMARKS"], rows);
}

const remarksOf = ({ cause, refused, routes }: PeerReport): string =>
  [
    cause ?? "",
    refused === undefined ? "" : `${refused.routes} refused: ${refused.reason}`,
    routes.some(({ stale }) => stale) ? "routes kept from before its restart" : "",
  ]
    .filter((remark) => remark !== "")
    .join("; ");
