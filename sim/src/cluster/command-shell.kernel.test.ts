import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { closeShells, quote, runInShell } from "./command-shell.ts";

// The namespace we are in already: entering it needs root, and these tests no namespace of their own.
const here = { netns: "/proc/self/ns/net", run: `ct-shell-${process.pid}` };

afterAll(() => closeShells(here.run));

describe("commands in a shell of the namespace", () => {
  test("get arguments, environment and input as they are, and answer with all three outputs", async () => {
    const awkward = 'it\'s $HOME `x` \\ "q" *\n%s';
    const result = await runInShell(here, {
      argv: ["/bin/sh", "-c", 'cat; printf %s "$1" >&2; printf %s "$A"; exit 7', "sh", awkward],
      env: { A: awkward, PATH: process.env["PATH"] ?? "" },
      stdin: '{"a":1}',
    });
    expect(result).toEqual({ exitCode: 7, stdout: `{"a":1}\n${awkward}`, stderr: awkward });
  });

  test("run side by side without mixing their outputs", async () => {
    const results = await Promise.all(
      Array.from({ length: 60 }, (_, at) =>
        runInShell(here, { argv: ["cat"], env: {}, stdin: `${at} ${"x".repeat(9000)}` }),
      ),
    );
    expect(results.map((each) => Number.parseInt(each.stdout, 10))).toEqual(Array.from({ length: 60 }, (_, at) => at));
  });

  test("that are missing, or killed by the signal, end as in a shell", async () => {
    expect(await runInShell(here, { argv: ["/no/such/plugin"], env: {} })).toMatchObject({ exitCode: 127, stdout: "" });
    const begun = performance.now();
    const killed = await runInShell(here, { argv: ["sleep", "30"], env: {}, signal: AbortSignal.timeout(50) });
    expect(killed.exitCode).toBe(137);
    expect(performance.now() - begun).toBeLessThan(10_000);
  });

  test("under way when their shell is closed are killed, and the next one gets a new shell", async () => {
    const waiting = runInShell(here, { argv: ["sleep", "30"], env: {} });
    await closeShells(here.run);
    expect((await waiting).exitCode).toBe(137);
    expect((await runInShell(here, { argv: ["echo", "again"], env: {} })).stdout).toBe("again\n");
  });

  test("property: any words arrive unchanged", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: "binary" }), { minLength: 1, maxLength: 4 }), async (words) => {
        const clean = words.map((word) => word.replaceAll("\0", ""));
        const { stdout } = await runInShell(here, { argv: ["printf", "%s|", ...clean], env: {} });
        expect(stdout).toBe(clean.map((word) => `${word}|`).join(""));
      }),
      { numRuns: 40 },
    );
  });
});

test("quoting leaves nothing for the shell to read", () => {
  expect(quote("a'b")).toBe("'a'\\''b'");
});
