// SPDX-License-Identifier: BSD-2-Clause
// dcPIM: connections for programs, the workloads behind the commands, and what runs on this machine.

export type { SocketAddress } from "../host/sockaddr.ts";
export {
  checkCpus,
  checkEngineOptions,
  chooseEngine,
  configFields,
  DCPIM_ENGINES,
  DCPIM_LIMITS,
  DCPIM_MAX_MESSAGE,
  type DcpimEngineName,
  type DcpimEngineOptions,
  type DcpimProtocol,
  epochNs,
  type FirstPart,
} from "./config.ts";
export { DcpimEngine } from "./engine.ts";
export {
  connect,
  type ConnectionInfo,
  type ConnectOptions,
  DcpimConnection,
  type DcpimKind,
  DcpimListener,
  listen,
  type ListenOptions,
} from "./socket.ts";
export {
  type DcpimConnectionStat,
  type DcpimEngineStat,
  type DcpimPeerStat,
  dcpimStat,
  type DcpimStatAnswers,
} from "./stat.ts";
export {
  type ClientOptions,
  type DcpimStats,
  type MessageOptions,
  type PingOptions,
  type ServerOptions,
  startMessages,
  startPing,
  startServer,
  startStream,
  type StreamOptions,
  type Transport,
  type TransportFigures,
  type WorkConnection,
  type WorkCounters,
  type Workload,
  type WorkResult,
  type WorkSnapshot,
} from "./workload.ts";
