import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import colors from "picocolors";
import { afterAll, describe, expect, test, vi } from "vitest";
import { runCalicoctl } from "../program.ts";

const folder = mkdtempSync(join(tmpdir(), "ct-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const run = (...argv: string[]) => runIn({ KUBECONFIG: join(folder, "none") }, ...argv);

async function runIn(
  env: Readonly<Record<string, string>>,
  ...argv: string[]
): Promise<{ code: number; out: string; notes: string }> {
  const out: string[] = [];
  const notes: string[] = [];
  const terminal = {
    out: (text: string) => void out.push(text),
    note: (text: string) => void notes.push(text),
    env,
    colors: colors.createColors(false),
  };
  const code = await runCalicoctl(argv, terminal);
  return { code, out: out.join("\n"), notes: notes.join("\n") };
}

const world = file(
  "world.yaml",
  `apiVersion: v1
kind: Pod
metadata: { name: a, namespace: x, labels: { app: a } }
spec: { containers: [] }
---
apiVersion: v1
kind: Pod
metadata: { name: b, namespace: x, labels: { app: b } }
spec: { containers: [] }
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: b, namespace: x }
spec:
  selector: app == 'b'
  ingress:
    - action: Allow
      protocol: TCP
      destination: { ports: [80] }
    - action: Deny
`,
);
const explain = (...rest: string[]) => run("explain", "x/a", "x/b", ...rest, "-f", world);

describe("explain", () => {
  test("an answer is a success, whichever it is", async () => {
    expect(await explain("tcp/80")).toMatchObject({ code: 0, notes: "" });
    const denied = await explain("tcp/81");
    expect(denied.code).toBe(0);
    expect(denied.out).toMatch(/^DENIED {2}x\/a \(192\.168\.0\.1\) → x\/b/);
    expect(denied.out).toContain(`${world}:20`);
  });

  test("--expect makes it a check", async () => {
    expect((await explain("tcp/81", "--expect", "denied")).code).toBe(0);
    expect((await explain("tcp/81", "--expect", "allowed")).code).toBe(1);
    expect((await run("explain", "x/a", "x/c", "tcp/1", "-f", world)).code).toBe(1);
  });

  test("--json is one object", async () => {
    const { out } = await explain("tcp/80", "--json");
    expect(JSON.parse(out)).toMatchObject({
      verdict: "allowed",
      paths: [{ decision: { index: 0, source: { line: 17 } } }],
    });
  });

  test("bad input is 2, and says where", async () => {
    const broken = file("broken.yaml", "apiVersion: v1\nkind: [\n");
    const invalid = file(
      "invalid.yaml",
      "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: { name: t }\nspec: { order: abc }\n",
    );
    for (const [path, place] of [
      [broken, "broken.yaml:3:1"],
      [invalid, "invalid.yaml:4:9"],
      [join(folder, "missing.yaml"), "no such file"],
    ] as const) {
      const { code, notes } = await run("explain", "x/a", "x/b", "tcp/1", "-f", path);
      expect({ code, notes }).toEqual({ code: 2, notes: expect.stringContaining(place) as string });
    }
    expect((await explain("tcp")).code).toBe(2);
    expect((await run("explain", "x/a")).code).toBe(2);
    const none = await run("explain", "x/a", "x/b", "tcp/1");
    expect(none).toMatchObject({ code: 2, notes: expect.stringContaining("KUBECONFIG") as string });
  });
});

test.each([
  [["explode"], 1],
  [["ipam", "show", "--bananas"], 1],
  [["ipam", "show", "--ip", "nowhere"], 1],
  [["node", "explode"], 1],
  [["lint", "--bananas"], 2],
  [["bgp", "explode"], 2],
] as const)(
  "bad input as upstream's scripts know it, and of our own commands: %j ends with %i",
  async (words, code) => {
    expect((await run(...words)).code).toBe(code);
  },
);

describe("explain on a node", () => {
  test.each([["--live"], ["--watch"]])("%s wants to be on a node of the way", async (option) => {
    const { code, notes } = await explain("tcp/80", option, "--node", "elsewhere");
    expect({ code, notes }).toEqual({
      code: 2,
      notes: expect.stringContaining(
        "this machine is node elsewhere, and neither end is on it: they are on node-1",
      ) as string,
    });
  });

  test("in a pod the cluster is the pod's", async () => {
    vi.stubEnv("HOME", folder);
    vi.stubEnv("KUBERNETES_SERVICE_HOST", "192.0.2.1");
    vi.stubEnv("KUBERNETES_SERVICE_PORT", "443");
    const env = { KUBERNETES_SERVICE_HOST: "192.0.2.1" };
    const { code, notes } = await runIn(env, "explain", "x/a", "x/b", "tcp/80");
    vi.unstubAllEnvs();
    expect(code).not.toBe(0);
    expect(notes).toContain("/var/run/secrets/kubernetes.io/serviceaccount");
  });

  test("numbers are numbers, and what does not exist cannot be watched", async () => {
    expect((await explain("tcp/80", "--watch", "--count", "0")).code).toBe(2);
    expect((await run("explain", "x/a", "x/nobody", "tcp/80", "--watch", "-f", world)).code).toBe(1);
  });
});

describe("lint", () => {
  const bad = file(
    "bad.yaml",
    'apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: g }\nspec: { selector: "!all()" }\n',
  );

  test("without files it needs a cluster, and says which it looked for", async () => {
    expect(await run("lint")).toMatchObject({ code: 2, notes: expect.stringContaining("--cluster") as string });
    expect(await run("lint", "--cluster")).toMatchObject({
      code: 2,
      notes: expect.stringContaining("KUBECONFIG") as string,
    });
  });

  test("errors make it 1, in every format", async () => {
    expect(await run("lint", world)).toMatchObject({ code: 0, out: "nothing found" });
    expect((await run("lint", bad)).code).toBe(1);
    const json = await run("lint", bad, "--format", "json");
    expect(json.code).toBe(1);
    expect(JSON.parse(json.out)).toMatchObject([
      { rule: "negated-catch-all", severity: "error", position: { file: bad, line: 4 } },
    ]);
    expect(JSON.parse((await run("lint", bad, "--format", "sarif")).out)).toMatchObject({ version: "2.1.0" });
  });

  test("a file that is no YAML is a finding; one that is not there is bad input", async () => {
    const broken = file("broken2.yaml", "a: [\n");
    const { code, out } = await run("lint", broken, world);
    expect(code).toBe(1);
    expect(out).toContain("[bad-yaml]");
    expect((await run("lint", join(folder, "missing.yaml"))).code).toBe(2);
    expect((await run("lint", bad, "--format", "xml")).code).toBe(2);
  });

  test("what the simulator brings along is clean", async () => {
    expect(await run("lint", join(import.meta.dirname, "../../../../sim/demo"))).toEqual({
      code: 0,
      out: "nothing found",
      notes: "",
    });
  });
});
