/** `calicoctl lint FILE...`: what is wrong with policies before a cluster has to find out. */
import { lint, lintSarif, lintText, readManifestWorld } from "@calico-ts/policy-compiler";
import { type Command, Option } from "commander";
import { readManifestFiles } from "../manifest-files.ts";
import type { CommandContext } from "../command.ts";
import { EXIT_FAILED } from "../command.ts";
import { paintOf } from "../terminal.ts";

interface LintOptions {
  readonly format: "text" | "json" | "sarif";
}

export function addLint(program: Command, { terminal, setExit }: CommandContext): void {
  program
    .command("lint")
    .description("find policies that cannot work, do nothing, do more than they say, or lock their owner out")
    .argument("<file...>", "manifests: files, folders or -; give the pods or Deployments together with the policies")
    .addOption(
      new Option("--format <format>", "text, json or sarif (2.1.0)").choices(["text", "json", "sarif"]).default("text"),
    )
    .addHelpText(
      "after",
      "\nExit code: 0 without errors (there may be warnings and notes), 1 with errors, 2 when a file cannot be read.",
    )
    .action((files: readonly string[], { format }: LintOptions) => {
      const { documents, mistakes } = readManifestFiles(files);
      const findings = lint({ ...readManifestWorld(documents), mistakes });
      if (format === "text") terminal.out(lintText(findings, paintOf(terminal)));
      else terminal.out(JSON.stringify(format === "sarif" ? lintSarif(findings) : findings, null, 2));
      setExit(findings.some(({ severity }) => severity === "error") ? EXIT_FAILED : 0);
    });
}
