/** Writes sim/topology.schema.json from the declaration the simulator checks with. Run by `npm run generate`. */
import { writeFileSync } from "node:fs";
import { topologyJsonSchema } from "../src/topology/topology-schema.ts";

export function writeTopologySchema(): string {
  const path = new URL("../topology.schema.json", import.meta.url);
  writeFileSync(path, `${JSON.stringify(topologyJsonSchema(), null, 2)}\n`);
  return path.pathname;
}

if (import.meta.main) writeTopologySchema();
