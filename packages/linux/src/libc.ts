/**
 * The C library through koffi: each function as a typed wrapper that throws on failure. Nothing outside this file
 * sees a raw return value or errno.
 *
 * Symbols come from the process itself (`load(null)`): Node is linked to the system's C library, whichever that is.
 */
import { constants } from "node:os";
import { CalicoError } from "@calico-ts/std";
import koffi from "koffi";

const libc = koffi.load(null);

type Bytes = Uint8Array;
/** Classic BPF, linux/filter.h. */
const sockFilter = koffi.struct({ code: "uint16_t", jt: "uint8_t", jf: "uint8_t", k: "uint32_t" });
const sockFprog = koffi.struct({ len: "uint16_t", filter: koffi.pointer(sockFilter) });

export interface FilterInstruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

type SysCall<A extends unknown[]> = ((...args: A) => number) & {
  async(...args: [...A, (error: unknown, result: number) => void]): void;
};
const bind = <A extends unknown[]>(definition: string): SysCall<A> => libc.func(definition) as SysCall<A>;

const c = {
  socket: bind<[number, number, number]>("int socket(int, int, int)"),
  bind: bind<[number, Bytes, number]>("int bind(int, void *, uint32_t)"),
  connect: bind<[number, Bytes, number]>("int connect(int, void *, uint32_t)"),
  listen: bind<[number, number]>("int listen(int, int)"),
  accept4: bind<[number, Bytes, Uint32Array, number]>("int accept4(int, void *, uint32_t *, int)"),
  getsockname: bind<[number, Bytes, Uint32Array]>("int getsockname(int, void *, uint32_t *)"),
  setsockopt: bind<[number, number, number, Bytes, number]>("int setsockopt(int, int, int, void *, uint32_t)"),
  attachFilter: libc.func("setsockopt", "int", ["int", "int", "int", koffi.pointer(sockFprog), "uint32_t"]) as SysCall<
    [number, number, number, { readonly len: number; readonly filter: readonly FilterInstruction[] }, number]
  >,
  getsockopt: bind<[number, number, number, Bytes, Uint32Array]>("int getsockopt(int, int, int, void *, uint32_t *)"),
  send: bind<[number, Bytes, number, number]>("intptr_t send(int, void *, size_t, int)"),
  recv: bind<[number, Bytes, number, number]>("intptr_t recv(int, void *, size_t, int)"),
  sendto: bind<[number, Bytes, number, number, Bytes, number]>(
    "intptr_t sendto(int, void *, size_t, int, void *, uint32_t)",
  ),
  recvfrom: bind<[number, Bytes, number, number, Bytes, Uint32Array]>(
    "intptr_t recvfrom(int, void *, size_t, int, void *, uint32_t *)",
  ),
  setns: bind<[number, number]>("int setns(int, int)"),
  unshare: bind<[number]>("int unshare(int)"),
  mount: bind<[string, string, string | null, number, null]>("int mount(str, str, str, ulong, void *)"),
  umount2: bind<[string, number]>("int umount2(str, int)"),
  flock: bind<[number, number]>("int flock(int, int)"),
  ioctl: bind<[number, number, Bytes]>("int ioctl(int, ulong, void *)"),
  bpf: bind<[number, number, Bytes, number]>("long syscall(long, int, void *, uint32_t)"),
};

const errnoNames = new Map<number, string>(Object.entries(constants.errno).map(([name, number]) => [number, name]));
// Kernel-internal numbers and ones Node's table lacks.
errnoNames.set(95, "EOPNOTSUPP").set(133, "EHWPOISON").set(512, "ERESTARTSYS").set(524, "ENOTSUPP").set(85, "ERESTART");

export const errnoName = (errno: number): string => errnoNames.get(errno) ?? `E${errno}`;

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EAGAIN: 11,
  ENOMEM: 12,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ERESTART: 85,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRNOTAVAIL: 99,
  ECONNABORTED: 103,
  ENOBUFS: 105,
  EINPROGRESS: 115,
} as const;

export interface KernelRefusal {
  readonly errno: number;
  readonly operation: string;
  readonly extack?: string;
}

/** What the refused operation was, what the kernel said, and its own explanation when it gave one. */
export function kernelError(
  refusal: KernelRefusal,
  more: { readonly hint?: string; readonly detail?: Readonly<Record<string, string | number>> } = {},
): CalicoError {
  const { errno, operation, extack } = refusal;
  const name = errnoName(errno);
  const why = extack === undefined ? (MEANINGS[name] ?? "") : extack;
  const text = `${operation}: the kernel answered ${name}${why === "" ? "" : ` (${why})`}`;
  const privilege = errno === ERRNO.EPERM ? "run as root or with CAP_NET_ADMIN" : undefined;
  const hint = more.hint ?? privilege;
  return new CalicoError("KERNEL", hint === undefined ? text : `${text}; ${hint}`, {
    detail: { errno, errnoName: name, operation, ...(extack === undefined ? {} : { extack }), ...more.detail },
  });
}

const MEANINGS: Readonly<Record<string, string>> = {
  EPERM: "not permitted",
  ENOENT: "there is no such object",
  ESRCH: "there is no such entry",
  EEXIST: "it exists already",
  EBUSY: "it is in use",
  ENODEV: "there is no such device",
  EINVAL: "invalid argument",
  ENOSPC: "it is full",
  ENOBUFS: "out of buffer space",
  EMSGSIZE: "the message is too large for the socket",
  EOPNOTSUPP: "this kernel does not support it",
  ENETUNREACH: "no route leads there",
  EHOSTUNREACH: "nobody on the link answers for the address, or a router on the way refuses",
  ECONNREFUSED: "refused: nobody listens on that port, or a firewall rejects",
  ETIMEDOUT: "no answer",
  EADDRNOTAVAIL: "the address is not here",
  EADDRINUSE: "the address is in use",
  ENETDOWN: "the link is down",
  ERANGE: "out of range",
};

/** errno of the last call on this thread; only meaningful directly after one that failed. */
export const lastErrno = (): number => koffi.errno();

/** Runs a call and throws what it failed with, repeating it when a signal interrupted it. */
function checked(operation: string, call: () => number): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const errno = koffi.errno();
    if (errno !== ERRNO.EINTR) throw kernelError({ errno, operation });
  }
}

export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;

export const sysSocket = (family: number, type: number, protocol: number): number =>
  checked(`open a socket (family ${family}, type ${type & 0xf}, protocol ${protocol})`, () =>
    c.socket(family, type | SOCK_CLOEXEC, protocol),
  );

export const sysBind = (fd: number, address: Bytes, what: string): number =>
  checked(`bind ${what}`, () => c.bind(fd, address, address.length));

export const sysListen = (fd: number, backlog: number): number => checked("listen", () => c.listen(fd, backlog));

/** The next connection of a listener, non-blocking, with the other end's address; a negative `fd` is the negative errno. */
export function sysAccept(listener: number): { readonly fd: number; readonly from: Uint8Array } {
  const from = new Uint8Array(128);
  const size = Uint32Array.of(from.length);
  for (;;) {
    const fd = c.accept4(listener, from, size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return { fd, from: from.subarray(0, size[0]) };
    const errno = koffi.errno();
    if (errno !== ERRNO.EINTR) return { fd: -errno, from: from.subarray(0, 0) };
  }
}

/** Starts connecting; a non-blocking socket goes on in the background. */
export function sysConnect(fd: number, address: Bytes, what: string): void {
  if (c.connect(fd, address, address.length) >= 0) return;
  const errno = koffi.errno();
  if (errno !== ERRNO.EINPROGRESS && errno !== ERRNO.EINTR)
    throw kernelError({ errno, operation: `connect to ${what}` });
}

export function sysGetSockName(fd: number): Uint8Array {
  const buffer = new Uint8Array(128);
  const length = Uint32Array.of(buffer.length);
  checked("read a socket's address", () => c.getsockname(fd, buffer, length));
  return buffer.subarray(0, length[0]);
}

const int32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);

/** False when the kernel refused. */
export const trySetSockOpt = (
  fd: number,
  option: readonly [level: number, name: number],
  value: number | Bytes,
): boolean => {
  const bytes = typeof value === "number" ? int32(value) : value;
  return c.setsockopt(fd, option[0], option[1], bytes, bytes.length) >= 0;
};

/** SO_ATTACH_FILTER: packets and messages for which the program returns 0 never reach the socket. */
export function sysAttachFilter(fd: number, program: readonly FilterInstruction[]): void {
  const [level, name] = [1, 26];
  checked("attach a filter to a socket", () =>
    c.attachFilter(fd, level, name, { len: program.length, filter: program }, koffi.sizeof(sockFprog)),
  );
}

export function sysSetSockOpt(fd: number, option: readonly [level: number, name: number], value: number | Bytes): void {
  if (!trySetSockOpt(fd, option, value)) {
    throw kernelError({ errno: koffi.errno(), operation: `set socket option ${option[0]}/${option[1]}` });
  }
}

export function sysGetSockOptInt(fd: number, option: readonly [level: number, name: number]): number {
  const value = new Int32Array(1);
  checked("read a socket option", () =>
    c.getsockopt(fd, option[0], option[1], new Uint8Array(value.buffer), Uint32Array.of(4)),
  );
  return value[0] ?? 0;
}

/** The number of bytes, or the negative errno: callers of the hot path tell errors apart without exceptions. */
export function sysSend(fd: number, bytes: Bytes, flags = 0): number {
  for (;;) {
    const sent = c.send(fd, bytes, bytes.length, flags);
    if (sent >= 0) return sent;
    const errno = koffi.errno();
    if (errno !== ERRNO.EINTR) return -errno;
  }
}

/** As `sysSend`, on another thread. A failure is repeated here to learn its errno, which belongs to that thread. */
export async function sysSendAsync(fd: number, bytes: Bytes): Promise<number> {
  const sent = await new Promise<number>((resolve, reject) => {
    c.send.async(fd, bytes, bytes.length, 0, (error, result) => {
      if (error instanceof Error) reject(error);
      else resolve(result);
    });
  });
  return sent >= 0 ? sent : sysSend(fd, bytes);
}

export const MSG = { DONTWAIT: 0x40, TRUNC: 0x20, PEEK: 0x2 } as const;

export function sysRecv(fd: number, buffer: Bytes, flags: number): number {
  for (;;) {
    const got = c.recv(fd, buffer, buffer.length, flags);
    if (got >= 0) return got;
    const errno = koffi.errno();
    if (errno !== ERRNO.EINTR) return -errno;
  }
}

export function sysSendTo(fd: number, bytes: Bytes, address: Bytes): number {
  const sent = c.sendto(fd, bytes, bytes.length, MSG.DONTWAIT, address, address.length);
  return sent >= 0 ? sent : -koffi.errno();
}

export function sysRecvFrom(fd: number, buffer: Bytes): { readonly length: number; readonly from: Uint8Array } {
  const from = new Uint8Array(128);
  const size = Uint32Array.of(from.length);
  const got = c.recvfrom(fd, buffer, buffer.length, MSG.DONTWAIT, from, size);
  return { length: got >= 0 ? got : -koffi.errno(), from: from.subarray(0, size[0]) };
}

const CLONE_NEWNET = 0x4000_0000;

export const sysSetNetns = (fd: number): number =>
  checked("enter a network namespace", () => c.setns(fd, CLONE_NEWNET));
export const sysUnshareNet = (): number => checked("make a network namespace", () => c.unshare(CLONE_NEWNET));

export const MS = { BIND: 0x1000, REC: 0x4000, SHARED: 0x10_0000 } as const;
export const MNT_DETACH = 2;

export const sysMount = (source: string, target: string, flags: number): number =>
  checked(`mount ${target}`, () => c.mount(source, target, "none", flags, null));
export const sysUnmount = (target: string): number => checked(`unmount ${target}`, () => c.umount2(target, MNT_DETACH));

const LOCK_EX = 2;

/** Waits for the lock; closing the descriptor gives it back. */
export const sysLock = (fd: number): number => checked("lock a file", () => c.flock(fd, LOCK_EX));

export const sysIoctl = (fd: number, request: number, argument: Bytes): number =>
  checked(`ioctl 0x${request.toString(16)}`, () => c.ioctl(fd, request, argument));

/** Where bytes lie, for structures that hold pointers; keep them alive until the call is over. */
export const addressOf = (bytes: Bytes): bigint => koffi.address(bytes);

/** bpf(2): the file descriptor or 0, or the negative errno. */
export function sysBpf(command: number, attributes: Bytes): number {
  const number = process.arch === "x64" ? 321 : 280;
  const result = c.bpf(number, command, attributes, attributes.length);
  return result >= 0 ? result : -koffi.errno();
}

export interface PollHandle {
  close(): void;
}

/** Calls back once, when the descriptor can be written to (a connection was made or failed). */
export function pollWritable(fd: number, onWritable: () => void): PollHandle {
  const handle = koffi.node.poll(fd, { writable: true }, () => {
    handle.stop();
    onWritable();
  });
  return { close: () => handle.close() };
}

/** Calls back on the event loop whenever the descriptor is readable or has an error to fetch. */
export function pollReadable(fd: number, onReadable: () => void): PollHandle {
  let closed = false;
  // libuv stops polling a descriptor with a pending error (an overrun of a netlink socket is one) and says so by a
  // negative status in place of events. Fetching the error clears it, and polling can go on.
  const onPoll = (status: unknown): void => {
    onReadable();
    if (closed || typeof status !== "number" || status >= 0) return;
    handle.stop();
    handle.start({ readable: true }, onPoll);
  };
  const handle = koffi.node.poll(fd, { readable: true }, onPoll);
  return {
    close() {
      closed = true;
      handle.stop();
      handle.close();
    },
  };
}
