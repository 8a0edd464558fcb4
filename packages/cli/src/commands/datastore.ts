/** `calicoctl datastore migrate lock` and `unlock`: every component waits while the datastore is locked; resources can still be changed. */
import type { DatastoreClient } from "@calico-ts/datastore";
import { hasCode } from "@calico-ts/std";
import type { Command } from "commander";
import type { CommandContext } from "../command.ts";
import { openDatastore } from "../open-datastore.ts";

export function addDatastore(program: Command, { terminal }: CommandContext): void {
  const migrate = program
    .command("datastore")
    .description("the datastore as a whole")
    .copyInheritedSettings(program)
    .command("migrate")
    .description("before and after changes that nothing may interfere with")
    .copyInheritedSettings(program);
  for (const [name, ready, about, done] of [
    ["lock", false, "makes every component wait", "Datastore locked."],
    ["unlock", true, "lets every component go on", "Datastore unlocked."],
  ] as const) {
    migrate
      .command(name)
      .description(about)
      .copyInheritedSettings(program)
      .action(async () => {
        await using client = await openDatastore(terminal);
        await setReady(client, ready);
        terminal.out(done);
      });
  }
}

export async function setReady(client: DatastoreClient, datastoreReady: boolean): Promise<void> {
  try {
    const existing = await client.get("ClusterInformation", { name: "default" });
    await client.update("ClusterInformation", { ...existing, spec: { ...existing.spec, datastoreReady } });
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    await client.create("ClusterInformation", {
      apiVersion: "projectcalico.org/v3",
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec: { datastoreReady },
    });
  }
}
