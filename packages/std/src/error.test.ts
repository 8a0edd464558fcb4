import { describe, expect, test } from "vitest";
import { CalicoError, errorText, hasCode, unreachable } from "./error.ts";

describe("errors", () => {
  test("carry a code, facts and a cause", () => {
    const cause = new Error("no route to host");
    const error = new CalicoError("UNAVAILABLE", "cannot list pods", { cause, detail: { attempt: 3 } });
    expect(error).toMatchObject({ name: "CalicoError", code: "UNAVAILABLE", detail: { attempt: 3 }, cause });
    expect(errorText(error)).toBe("cannot list pods: no route to host");
    expect(new CalicoError("INTERNAL", "x")).not.toHaveProperty("cause");
  });

  test("keep their code when their class is lost", () => {
    const crossed = Object.assign(new Error("gone"), { code: "NOT_FOUND" });
    expect(hasCode(crossed, "NOT_FOUND")).toBe(true);
    expect(hasCode(crossed, "CONFLICT")).toBe(false);
    expect(hasCode({ code: "NOT_FOUND" }, "NOT_FOUND")).toBe(false);
    expect(hasCode(undefined, "NOT_FOUND")).toBe(false);
  });

  test("whatever was thrown has a text", () => {
    expect(errorText("plain")).toBe("plain");
    expect(errorText(undefined)).toBe("undefined");
  });

  test("an unhandled variant is a fault of ours", () => {
    expect(() => unreachable({ kind: "new" } as never)).toThrow(expect.objectContaining({ code: "INTERNAL" }));
  });
});
