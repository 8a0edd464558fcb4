import { describe, expect, test } from "vitest";
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { changeTransactions } from "./change-commands.ts";
import { NftPolicyRenderer } from "./policy-renderer.ts";

const set = (...members: string[]): DataplaneMessage => ({ kind: "ip-set-update", id: "s:1", type: "net", members });

function steps(renderer: NftPolicyRenderer): string[][] {
  return changeTransactions(renderer.take()).map((commands) =>
    commands.flatMap((command) => {
      const named = "set" in command ? (typeof command.set === "string" ? command.set : command.set.name) : "";
      return named.startsWith("set/") ? [`${command.do} ${named}`] : [];
    }),
  );
}

describe("transactions", () => {
  test("new interval sets are filled before the rules that ask them, sets go after them", () => {
    const renderer = new NftPolicyRenderer();
    renderer.receive(set("10.0.0.1/32"));
    expect(steps(renderer)).toEqual([["add-set set/s/1/v4", "add-elements set/s/1/v4"]]);
    renderer.receive(set("10.0.0.1/32", "10.1.0.0/16"));
    expect(steps(renderer)).toEqual([["add-set set/s/1/v4-nets", "add-elements set/s/1/v4-nets"]]);
    renderer.receive(set("10.0.0.2/32"));
    expect(steps(renderer)).toEqual([
      ["delete-elements set/s/1/v4", "add-elements set/s/1/v4"],
      ["delete-set set/s/1/v4-nets"],
    ]);
    expect(steps(renderer)).toEqual([[]]);
  });
});
