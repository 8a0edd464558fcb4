/** `calicoctl lint [FILE...] [--cluster]`: what is wrong with policies before a cluster has to find out. */
import type { SourcedResource } from "@calico-ts/policy-compiler";
import { lint, lintSarif, lintText, listWorld, readManifestWorld } from "@calico-ts/policy-compiler";
import { CalicoError } from "@calico-ts/std";
import { type Command, Option } from "commander";
import { readManifestFiles } from "../manifest-files.ts";
import type { CommandContext } from "../command.ts";
import { EXIT_FAILED } from "../command.ts";
import { openDatastore } from "../open-datastore.ts";
import type { Terminal } from "../terminal.ts";
import { paintOf } from "../terminal.ts";

interface LintOptions {
  readonly cluster?: boolean;
  readonly format: "text" | "json" | "sarif";
}

async function clusterOf(terminal: Terminal): Promise<SourcedResource[]> {
  await using client = await openDatastore(terminal);
  return await listWorld(client);
}

export function addLint(program: Command, { terminal, setExit }: CommandContext): void {
  program
    .command("lint")
    .description("find policies that cannot work, do nothing, do more than they say, or lock their owner out")
    .argument("[file...]", "manifests: files, folders or -; give the pods or Deployments together with the policies")
    .option(
      "--cluster",
      "judge what the cluster of KUBECONFIG holds; with files, what applying them would change there",
    )
    .addOption(
      new Option("--format <format>", "text, json or sarif (2.1.0)").choices(["text", "json", "sarif"]).default("text"),
    )
    .addHelpText(
      "after",
      "\nExit code: 0 without errors (there may be warnings and notes), 1 with errors, 2 when a file cannot be read.",
    )
    .action(async (files: readonly string[], { format, cluster }: LintOptions) => {
      if (files.length === 0 && cluster !== true) {
        throw new CalicoError("BAD_INPUT", "name the files or folders to look at, or say --cluster");
      }
      const { documents, mistakes } = readManifestFiles(files);
      const held = cluster === true ? { cluster: await clusterOf(terminal) } : {};
      const findings = lint({ ...readManifestWorld(documents), mistakes, ...held });
      if (format === "text") terminal.out(lintText(findings, paintOf(terminal)));
      else terminal.out(JSON.stringify(format === "sarif" ? lintSarif(findings) : findings, null, 2));
      setExit(findings.some(({ severity }) => severity === "error") ? EXIT_FAILED : 0);
    });
}
