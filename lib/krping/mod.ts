// SPDX-License-Identifier: BSD-2-Clause
// krping: RDMA ping-pong, benchmarks and a remote block device, over whatever RDMA this machine has.

export {
  type BlockCounters,
  type BlockExport,
  type BlockExportInfo,
  type BlockExportOptions,
  BlockRun,
  type BlockServeOptions,
  type BlockSnapshot,
  startBlockExport,
  startBlockServe,
} from "./block.ts";
export { type CommaCommand, type CommaFlag, isCommaCommand, parseCommaCommand } from "./comma.ts";
export {
  chooseKrpingEngine,
  KRPING_ENGINES,
  KRPING_LIMITS,
  type KrpingEngineName,
  type KrpingEngineOptions,
  PATH_MTUS,
} from "./config.ts";
export {
  classicLine,
  type KrpingConnectionStat,
  type KrpingServerStat,
  krpingStat,
  type KrpingStatAnswers,
} from "./stat.ts";
export {
  KRPING_OPS,
  type KrpingClientOptions,
  type KrpingConnection,
  type KrpingCounters,
  type KrpingOp,
  type KrpingResult,
  KrpingRun,
  type KrpingServerOptions,
  type KrpingSnapshot,
  type KrpingTest,
  startKrping,
  startKrpingServer,
} from "./work.ts";
