export type {
  AddressFilter,
  AddressTable,
  Conntrack,
  ConntrackFlow,
  Kernel,
  KernelEvent,
  LinkTable,
  ManyResult,
  NeighbourFilter,
  NeighbourTable,
  NftClient,
  NftRuleEntry,
  RouteAnswer,
  RouteFilter,
  RouteTable,
  RuleFilter,
  RuleTable,
  Sysctl,
  Table,
  TableOp,
  WatchGroup,
  WatchOptions,
} from "./kernel.ts";
export type {
  FlowPattern,
  FlowTrace,
  FollowOptions,
  FlowTraceOptions,
  TracedPacket,
  TracedStep,
} from "./flow-trace.ts";
export { followFlow, traceFlow } from "./flow-trace.ts";
export type { KernelRefusal } from "./libc.ts";
export { errnoName } from "./libc.ts";
export {
  createNamespace,
  deleteNamespace,
  inNamespace,
  listNamespaces,
  NETNS_DIRECTORY,
  namespaceExists,
  namespaceInode,
  namespacePath,
  releaseNamespaceDirectory,
} from "./namespace.ts";
export { openKernel } from "./open-kernel.ts";
export { peerNamespace } from "./peer-namespace.ts";
export type { ProgramOptions } from "./process.ts";
export { startProgram } from "./process.ts";
export type {
  LinkSocket,
  LinkSocketOptions,
  RawReceiver,
  RawReceiverOptions,
  RawSender,
  RawSenderOptions,
} from "./raw-socket.ts";
export { openLinkSocket, openRawReceiver, openRawSender } from "./raw-socket.ts";
export type { Echo, EchoSocket, PingOptions } from "./echo.ts";
export { openEchoSocket, ping, pingSocket } from "./echo.ts";
export type { Endpoint, Place, TcpTarget } from "./sockets.ts";
export {
  awaitConnected,
  bindUdp,
  connectTcp,
  connectUdp,
  listenTcp,
  localEndpoint,
} from "./sockets.ts";
export type { Capabilities, Capability } from "./capabilities.ts";
export { probeCapabilities } from "./capabilities.ts";
export type { AcceptedTcp, TcpTerms } from "./tcp.ts";
export {
  acceptTcp,
  interfaceName,
  LONGEST_TCP_PASSWORD,
  resetTcpTtl,
  setTcpPassword,
  setTcpTerms,
  setTcpTtl,
} from "./tcp.ts";
