/** The installed kubectl against a running server: what people type has to work, and say what it says elsewhere. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Harness, startHarness } from "../testing/harness.ts";

let api: Harness;
let folder: string;
let kubeconfig: string;

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[], input = ""): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      "kubectl",
      [...args],
      { env: { ...process.env, KUBECONFIG: kubeconfig, HOME: folder }, timeout: 20_000 },
      (error, out, err) => {
        if (error !== null && error.code === "ENOENT")
          reject(new Error("kubectl is not on PATH: install it (`npm test` does) and run the test again"));
        else resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : 1, out, err });
      },
    );
    child.stdin?.end(input);
  });
}

async function ok(args: readonly string[], input = ""): Promise<string> {
  const { code, out, err } = await run(args, input);
  if (code !== 0 || err !== "") throw new Error(`kubectl ${args.join(" ")} exited ${code}: ${err}${out}`);
  return out;
}

interface Versions {
  readonly clientVersion: { readonly minor: string };
  readonly serverVersion: { readonly gitVersion: string };
}

/** The client's minor version: Debian 12 has 20, and some commands came later. */
async function clientMinor(): Promise<number> {
  const { clientVersion } = JSON.parse(await ok(["version", "-o", "json"])) as Versions;
  return Number.parseInt(clientVersion.minor, 10);
}

async function newToken(namespace: string): Promise<string> {
  if ((await clientMinor()) >= 24) return ok(["create", "token", "default", "-n", namespace]);
  const request = '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}';
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default/token`;
  const answer = JSON.parse(await ok(["create", "--raw", path, "-f", "-"], request)) as { status: { token: string } };
  return answer.status.token;
}

const manifest = (image: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "${image}", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80, protocol: TCP}]}]}
`;

beforeAll(async () => {
  api = await startHarness({
    async *podLogs({ pod }) {
      yield `log of ${pod}\n`;
    },
  });
  folder = mkdtempSync(join(tmpdir(), "kubectl-test-"));
  kubeconfig = join(folder, "config");
  writeFileSync(kubeconfig, await api.server.adminKubeconfig());
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await api[Symbol.asyncDispose]();
});

describe("kubectl", { timeout: 60_000 }, () => {
  test("version, api-resources, explain, auth", async () => {
    const { serverVersion } = JSON.parse(await ok(["version", "-o", "json"])) as Versions;
    expect(serverVersion.gitVersion).toBe("v1.32.4");
    expect(await ok(["api-resources", "--no-headers", "-o", "name"])).toContain("networkpolicies.networking.k8s.io\n");
    expect(await ok(["explain", "networkpolicy.spec.ingress"])).toMatch(
      /FIELD: ingress <\[\]NetworkPolicyIngressRule>|RESOURCE: ingress <\[\]Object>/,
    );
    expect((await ok(["auth", "can-i", "delete", "pods"])).trim()).toBe("yes");
    expect((await run(["auth", "can-i", "delete", "pods", "--as=bob"])).out.trim()).toBe("no");
    const whoAmI =
      (await clientMinor()) >= 28
        ? ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]
        : ["get", "--raw", "/apis/authorization.k8s.io/v1"]; // no such command yet: that the group is there must do
    expect(await ok(whoAmI)).toMatch(/^kubernetes-admin$|selfsubjectaccessreviews/);
  });

  test("apply creates, changes, leaves alone; server-side too", async () => {
    expect(await ok(["apply", "-f", "-"], manifest("nginx:1"))).toBe(
      "deployment.apps/web created\nservice/web created\nnetworkpolicy.networking.k8s.io/web created\n",
    );
    expect(await ok(["apply", "-f", "-"], manifest("nginx:1"))).toBe(
      "deployment.apps/web unchanged\nservice/web unchanged\nnetworkpolicy.networking.k8s.io/web unchanged\n",
    );
    expect(await ok(["apply", "-f", "-"], manifest("nginx:2"))).toContain("deployment.apps/web configured");
    expect(await ok(["diff", "-f", "-"], manifest("nginx:2"))).toBe("");
    expect(await ok(["apply", "--server-side", "-f", "-"], manifest("nginx:3"))).toContain(
      "deployment.apps/web serverside-applied",
    );
    expect(await ok(["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"])).toBe(
      "nginx:3",
    );
    expect(await ok(["apply", "--dry-run=server", "-f", "-"], manifest("nginx:3"))).toContain("(server dry run)");
  });

  test("mistakes are named", async () => {
    const typo = await run(
      ["apply", "-f", "-"],
      "apiVersion: v1\nkind: Pod\nmetadata: {name: t}\nspec: {contaners: [], containers: [{name: a, image: b}]}\n",
    );
    // Newer clients leave the check to the server, older ones read its schema; both name the field.
    expect(typo.err).toMatch(/unknown field "(spec\.)?contaners"/);
    const bad = await run(
      ["apply", "-f", "-"],
      "apiVersion: v1\nkind: Pod\nmetadata: {name: t}\nspec: {containers: []}\n",
    );
    expect(bad.err).toContain('The Pod "t" is invalid: spec.containers: Required value');
    expect((await run(["get", "pod", "none"])).err).toBe('Error from server (NotFound): pods "none" not found\n');
    expect((await run(["get", "nothings"])).err).toContain(`the server doesn't have a resource type "nothings"`);
  });

  test("get: tables, wide, yaml, selectors, watch", async () => {
    expect(await ok(["get", "svc"])).toMatch(
      /NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\nkubernetes +ClusterIP +10\.96\.0\.1 +<none> +443\/TCP/,
    );
    expect(await ok(["get", "deploy", "-o", "wide"])).toMatch(/web +0\/2 +0 +0 +\d+s +web +nginx:3 +app=web/);
    expect(await ok(["get", "netpol"])).toMatch(/web +app=web/);
    expect(await ok(["get", "all", "-A"])).toContain("deployment.apps/web");
    expect(await ok(["get", "deploy", "-l", "app=web", "-o", "name"])).toBe("deployment.apps/web\n");
    const watching = run(["get", "cm", "-w", "--request-timeout=3s", "-o", "name"]);
    await eventually(async () => {
      await run(["create", "cm", "seen", "--from-literal=a=b"]);
      return true;
    });
    expect((await watching).out).toContain("configmap/seen");
  });

  test("run, describe, label, annotate, logs, wait, delete", async () => {
    await ok(["run", "p", "--image=nginx:1"]);
    expect(await ok(["label", "pod", "p", "colour=red"])).toBe("pod/p labeled\n");
    expect(await ok(["annotate", "pod", "p", "note=x"])).toBe("pod/p annotated\n");
    expect(await ok(["describe", "pod", "p"])).toMatch(/Labels: +colour=red/);
    await api.create("/api/v1/namespaces/default/pods/p/binding", { target: { name: "node-1" } });
    expect(await ok(["logs", "p"])).toBe("log of p\n");
    const waiting = run(["wait", "--for=condition=Ready", "pod/p", "--timeout=10s"]);
    await api.patch("/api/v1/namespaces/default/pods/p/status", "application/strategic-merge-patch+json", {
      status: {
        phase: "Running",
        podIP: "10.0.0.9",
        podIPs: [{ ip: "10.0.0.9" }],
        conditions: [{ type: "Ready", status: "True" }],
        containerStatuses: [
          { name: "p", ready: true, restartCount: 0, image: "nginx:1", imageID: "", state: { running: {} } },
        ],
      },
    });
    expect((await waiting).out).toBe("pod/p condition met\n");
    expect(await ok(["get", "pod", "p", "-o", "wide"])).toMatch(
      /p +1\/1 +Running +0 +\d+s +10\.0\.0\.9 +node-1 +<none> +<none>/,
    );
    await ok(["delete", "pod", "p", "--wait=false"]);
    expect(await ok(["get", "pod", "p"])).toContain("Terminating");
    expect((await run(["delete", "pod", "p", "--force", "--grace-period=0"])).out).toBe('pod "p" force deleted\n');
    await eventually(async () => (await run(["get", "pod", "p"])).code === 1);
  });

  test("scale, rollout, patch, edit-like patches, expose", async () => {
    expect(await ok(["scale", "deploy", "web", "--replicas=3"])).toBe("deployment.apps/web scaled\n");
    await ok([
      "patch",
      "deploy",
      "web",
      "-p",
      '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"nginx:9"}]}}}}',
    ]);
    const { body } = await api.get("/apis/apps/v1/namespaces/default/deployments/web");
    await api.patch("/apis/apps/v1/namespaces/default/deployments/web/status", "application/merge-patch+json", {
      status: {
        observedGeneration: body.metadata.generation,
        replicas: 3,
        updatedReplicas: 3,
        readyReplicas: 3,
        availableReplicas: 3,
      },
    });
    expect(await ok(["rollout", "status", "deploy", "web", "--timeout=5s"])).toContain("successfully rolled out");
    expect(await ok(["rollout", "restart", "deploy", "web"])).toBe("deployment.apps/web restarted\n");
    expect(await ok(["set", "image", "deploy/web", "web=nginx:10"])).toBe("deployment.apps/web image updated\n");
    expect(await ok(["expose", "deploy", "web", "--name=exposed", "--port=80"])).toBe("service/exposed exposed\n");
  });

  test("create: namespaces, tokens, roles, secrets, quick objects", async () => {
    await ok(["create", "ns", "fresh"]);
    await eventually(async () => (await run(["get", "sa", "default", "-n", "fresh"])).code === 0);
    expect((await newToken("fresh")).split(".")).toHaveLength(3);
    await ok(["create", "role", "r", "--verb=get,list", "--resource=pods", "-n", "fresh"]);
    await ok(["create", "rolebinding", "rb", "--role=r", "--user=bob", "-n", "fresh"]);
    expect((await run(["get", "pods", "-n", "fresh", "--as=bob"])).err).toBe(
      "No resources found in fresh namespace.\n",
    );
    await ok(["create", "secret", "generic", "s", "--from-literal=a=b", "-n", "fresh"]);
    await ok(["create", "deployment", "d", "--image=x", "-n", "fresh"]);
    await ok(["create", "job", "j", "--image=x", "-n", "fresh"]);
    expect(await ok(["delete", "ns", "fresh"])).toBe('namespace "fresh" deleted\n');
    expect((await run(["get", "ns", "fresh"])).code).toBe(1);
  });

  test("custom resources", async () => {
    const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {kind: Widget, plural: widgets, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, minimum: 1, description: How big.}}}}}}
`;
    await ok(["apply", "-f", "-"], definition);
    await ok(["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=5s"]);
    const widget = (size: number): string =>
      `apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: ${size}}\n`;
    await ok(["apply", "-f", "-"], widget(3));
    await ok(["apply", "-f", "-"], widget(4));
    expect(await ok(["get", "wd"])).toMatch(/NAME +SIZE\nw +4\n/);
    expect(await ok(["explain", "widget.spec.size"])).toContain("How big.");
    expect((await run(["apply", "-f", "-"], widget(0))).err).toContain(
      "spec.size in body should be greater than or equal to 1",
    );
    await ok(["delete", "crd", "widgets.example.com"]);
  });
});
