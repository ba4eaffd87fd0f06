// SPDX-License-Identifier: Apache-2.0
// NcclApi: the calls of NCCL that are used, as a table, so that a library found at run time or a test can stand behind
// it. The types are declared here and not taken from nccl.h, so that all but the kernels is built and tested without
// CUDA; nccl_abi.cc holds them to nccl.h where there is one.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep::nccl {

// ncclResult_t.
inline constexpr int kSuccess = 0;
inline constexpr int kUnhandledCudaError = 1;
inline constexpr int kSystemError = 2;
inline constexpr int kRemoteError = 6;
inline constexpr int kInProgress = 7;
// ncclDataType_t.
inline constexpr int kFloat32 = 7;
inline constexpr int kFloat64 = 8;
// ncclRedOp_t.
inline constexpr int kSum = 0;
inline constexpr int kMax = 2;

// ncclComm_t, cudaStream_t.
using Comm = void*;
using Stream = void*;

struct UniqueId {
  std::array<char, 128> bytes{};
};

// ncclConfig_t as of 2.18; a newer NCCL reads as much as `size` says.
struct Config {
  static constexpr int kUndefined = -2147483647 - 1;
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = kMinVersion;
  // 0: no call waits; each may answer kInProgress, until CommGetAsyncError does not.
  int blocking = 0;
  int cga_cluster_size = kUndefined;
  int min_ctas = kUndefined;
  int max_ctas = kUndefined;
  const char* net_name = nullptr;
  int split_share = kUndefined;

  static constexpr unsigned kMinVersion = 21800;
};

struct NcclApi {
  int (*GetVersion)(int* version);
  int (*GetUniqueId)(UniqueId* id);
  int (*CommInitRankConfig)(Comm* comm, int size, UniqueId id, int rank, Config* config);
  int (*CommGetAsyncError)(Comm comm, int* result);
  int (*CommFinalize)(Comm comm);
  int (*CommDestroy)(Comm comm);
  int (*CommAbort)(Comm comm);
  const char* (*GetErrorString)(int result);
  // More words about the newest failure.
  const char* (*GetLastError)(Comm comm);
  int (*GroupStart)();
  int (*GroupEnd)();
  int (*Send)(const void* from, size_t count, int type, int peer, Comm comm, Stream stream);
  int (*Recv)(void* to, size_t count, int type, int peer, Comm comm, Stream stream);
  int (*AllGather)(const void* from, void* to, size_t count, int type, Comm comm, Stream stream);
  int (*AllReduce)(const void* from, void* to, size_t count, int type, int op, Comm comm, Stream stream);
};

// Loads libnccl.so.2 for the life of the process: from the first of `before` that has it, else where the system looks,
// else from `after`; CudaFoldersFirst and CudaFoldersLast of device_loader.h. NOT_FOUND says where it looked,
// FAILED_PRECONDITION that it is too old. Any thread; the first success is kept.
absl::StatusOr<const NcclApi*> LoadNccl(const std::vector<std::string>& before, const std::vector<std::string>& after);

}  // namespace lockstep::nccl
