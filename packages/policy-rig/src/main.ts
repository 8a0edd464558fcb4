/** The command of `npm run fuzz -- policy`. Leaves no namespace behind, also when it is interrupted. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { deleteNamespace, listNamespaces } from "@calico-ts/linux";
import { rigPrefix, runFuzz } from "./command-line.ts";

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    for (const name of listNamespaces()) if (name.startsWith(`${rigPrefix()}-`)) deleteNamespace(name);
    process.exit(signal === "SIGINT" ? 130 : 143);
  });
}

process.exitCode = await runFuzz(process.argv.slice(2), {
  root: join(import.meta.dirname, "../../.."),
  freshSeed: () => randomBytes(4).toString("hex"),
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
});
