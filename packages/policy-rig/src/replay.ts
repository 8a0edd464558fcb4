/** A kept case again: nothing may be wrong with it, and where it says what is right, the verdicts must be that. */
import type { CaseFile } from "./case-file.ts";
import { Expectations, reasonText } from "./expect.ts";
import { packetText } from "./packets/packet.ts";
import { findingText } from "./report.ts";
import type { Rig } from "./rig.ts";

/** What is wrong, for people; empty: all is well. */
export async function replay(rig: Rig, source: CaseFile): Promise<string[]> {
  const wrong = (await rig.run(source)).map(findingText);
  const last = source.history.at(-1);
  if (last === undefined) return wrong;
  const expectations = new Expectations(last);
  for (const [at, packet] of source.packets.entries()) {
    const right = source.expected[at];
    if (right === undefined) continue;
    const { allowed, reason } = expectations.of(packet);
    if (allowed === right) continue;
    wrong.push(
      `${packetText(packet)} should be ${right ? "allowed" : "denied"}; the oracle disagrees (${reasonText(reason)})`,
    );
  }
  return wrong;
}
