/**
 * One execution of a probe (liveness, readiness, startup) of kind httpGet, tcpSocket or grpc, from the node's namespace.
 *
 * A grpc probe counts as answered when the connection is accepted: stubs speak no gRPC. Redirects and statuses 200 to 399 are success,
 * certificates are not verified, as in Kubernetes.
 */
import { closeSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { awaitConnected, connectTcp } from "@calico-ts/linux";
import { tryParseAddress } from "@calico-ts/net";
import { errorText } from "@calico-ts/std";
import type { Container, Probe } from "../kube/objects.ts";

export type ProbeOutcome = { readonly ok: true } | { readonly ok: false; readonly message: string };

export interface ProbeTarget {
  readonly netns: string;
  readonly address: string;
  readonly container: Container;
  readonly timeoutMs: number;
}

const failure = (message: string): ProbeOutcome => ({ ok: false, message });

/** Undefined: not a probe over the network. */
export function checkOverNetwork(probe: Probe, target: ProbeTarget): Promise<ProbeOutcome> | undefined {
  if (probe.httpGet !== undefined) return checkHttp(probe.httpGet, target);
  if (probe.tcpSocket !== undefined) return checkTcp(probe.tcpSocket.port, probe.tcpSocket.host, target);
  if (probe.grpc !== undefined) return checkTcp(probe.grpc.port, undefined, target);
  return undefined;
}

/** A number, or the name of one of the container's ports. */
export function probePort(port: number | string, container: Container): number | undefined {
  if (typeof port === "number") return port;
  if (/^\d+$/.test(port)) return Number(port);
  return (container.ports ?? []).find((each) => each.name === port)?.containerPort;
}

/** A connection under way, or why there can be none. */
function connect(port: number | string, host: string | undefined, target: ProbeTarget): number | ProbeOutcome {
  const number = probePort(port, target.container);
  if (number === undefined) return failure(`couldn't find port: ${port}`);
  const name = host === undefined || host === "" ? target.address : host;
  const address = tryParseAddress(name === "localhost" ? "127.0.0.1" : name);
  if (address === undefined) return failure(`host ${name}: probes are sent to addresses, not names`);
  try {
    return connectTcp({ netns: target.netns, address, port: number });
  } catch (error) {
    return failure(errorText(error));
  }
}

async function checkTcp(port: number | string, host: string | undefined, target: ProbeTarget): Promise<ProbeOutcome> {
  const fd = connect(port, host, target);
  if (typeof fd !== "number") return fd;
  try {
    await awaitConnected(fd, target.timeoutMs);
    return { ok: true };
  } catch (error) {
    return failure(`dial tcp ${target.address}:${port}: ${errorText(error)}`);
  } finally {
    closeSync(fd);
  }
}

function checkHttp(action: NonNullable<Probe["httpGet"]>, target: ProbeTarget): Promise<ProbeOutcome> {
  const fd = connect(action.port, action.host, target);
  if (typeof fd !== "number") return Promise.resolve(fd);
  const socket = new Socket({ fd, readable: true, writable: true });
  return new Promise((resolve) => {
    const finish = (outcome: ProbeOutcome): void => {
      clearTimeout(timer);
      request.destroy();
      socket.destroy();
      resolve(outcome);
    };
    const what = `Get "${(action.scheme ?? "HTTP").toLowerCase()}://${target.address}:${action.port}${action.path ?? "/"}"`;
    const timer = setTimeout(() => finish(failure(`${what}: context deadline exceeded`)), target.timeoutMs);
    const headers = Object.fromEntries((action.httpHeaders ?? []).map(({ name, value }) => [name, value]));
    const options: https.RequestOptions = {
      method: "GET",
      path: action.path ?? "/",
      headers: {
        host: `${target.address}:${action.port}`,
        "user-agent": "kube-probe/sim",
        connection: "close",
        ...headers,
      },
      // No agent: with one, Node would connect by itself instead of using the socket inside the namespace.
    };
    const request =
      action.scheme === "HTTPS"
        ? https.request({ ...options, createConnection: () => tlsConnect({ socket, rejectUnauthorized: false }) })
        : http.request({ ...options, createConnection: () => socket });
    request.on("response", (response) => {
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 400) finish({ ok: true });
      else finish(failure(`HTTP probe failed with statuscode: ${status}`));
    });
    request.on("error", (error) => finish(failure(`${what}: ${error.message}`)));
    socket.on("error", (error) => finish(failure(`${what}: ${error.message}`)));
    request.end();
  });
}
