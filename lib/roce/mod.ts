// SPDX-License-Identifier: BSD-2-Clause
// RoCEv2 in user space: devices, memory, queues and connections in the terms of the verbs and of rdma_cm.

export {
  connect,
  type ConnectionOptions,
  RoceConnection,
  type RoceConnectOptions,
  RoceListener,
  RoceRequest,
} from "./connection.ts";
export {
  type CompletedOp,
  type Completion,
  CompletionQueue,
  MemoryRegion,
  ProtectionDomain,
  QueuePair,
  type QueuePairOptions,
  type ReceiveRequest,
  type RoceAccess,
  RoceDevice,
  type RoceDeviceInfo,
  type RoceDeviceOptions,
  type RoceOp,
  type RoceSge,
  type SendRequest,
} from "./device.ts";
