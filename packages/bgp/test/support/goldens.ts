/** Messages of other implementations, as `npm run capture -w packages/bgp-daemon` found them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { AttributeContext } from "../../src/wire/attributes/table.ts";
import type { RoutedFamily } from "../../src/wire/family.ts";

export interface Golden {
  /** `BIRD 2.0.12, plain`. */
  readonly label: string;
  readonly program: string;
  readonly context: AttributeContext;
  /** Whole messages, markers included. */
  readonly frames: readonly { readonly type: string; readonly bytes: Uint8Array }[];
}

interface Stored {
  readonly program: string;
  readonly version: string;
  readonly setting: string;
  readonly context: {
    readonly fourOctetAs: boolean;
    readonly internal: boolean;
    readonly addPath: readonly RoutedFamily[];
  };
  readonly frames: readonly { readonly type: string; readonly hex: string }[];
}

const FOLDER = join(import.meta.dirname, "../goldens");

export const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

export function readGoldens(): Golden[] {
  return readdirSync(FOLDER)
    .toSorted()
    .map((file) => {
      const stored = JSON.parse(readFileSync(join(FOLDER, file), "utf8")) as Stored;
      return {
        label: `${stored.program} ${stored.version}, ${stored.setting}`,
        program: stored.program,
        context: { ...stored.context, addPath: new Set(stored.context.addPath) },
        frames: stored.frames.map(({ type, hex }) => ({ type, bytes: fromHex("ff".repeat(16) + hex) })),
      };
    });
}
