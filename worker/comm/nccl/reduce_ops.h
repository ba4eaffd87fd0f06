// SPDX-License-Identifier: Apache-2.0
// ReduceOps: what NcclReducer needs of a GPU besides NCCL: memory, two in-order streams and what orders them, and the
// kernel that adds. Every call enqueues and returns, so that all of it can be recorded in a graph. Of one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/nccl/nccl_api.h"
#include "worker/comm/nccl/tree_add.h"

namespace lockstep::nccl {

enum class Lane : uint8_t {
  // The device's stream, on which forward and backward run.
  kCompute,
  // On which gradients travel and are added meanwhile.
  kReduce,
};

class ReduceOps {
 public:
  virtual ~ReduceOps() = default;

  virtual Stream stream(Lane lane) const = 0;
  // Zeros on the device, on a boundary of 256 bytes, for the life of this object. RESOURCE_EXHAUSTED where memory is
  // short. Waits; before the first step.
  virtual absl::StatusOr<void*> Allocate(size_t bytes) = 0;
  // The same on the host, where the GPU can read and write while the host goes on.
  virtual absl::StatusOr<void*> AllocateHost(size_t bytes) = 0;
  // Between any two of those memories, which stay put until it is done.
  virtual void Copy(Lane lane, void* to, const void* from, size_t bytes) = 0;
  // What is enqueued on `second` from now on begins once all is over that is on `first` now.
  virtual void Order(Lane first, Lane second) = 0;
  virtual void Zero(Lane lane, void* data, size_t bytes) = 0;
  virtual void Add(Lane lane, const TreeAdd<float>& args) = 0;
  virtual void Add(Lane lane, const TreeAdd<double>& args) = 0;
  // Marks the end of what is on the lane now, and whether it has been reached since. An error that a call of before
  // met is told here.
  virtual void Mark(Lane lane) = 0;
  virtual absl::StatusOr<bool> Reached() = 0;
};

// On the calling thread's GPU. `compute`: a cudaStream_t that outlives the object. (add.cu, in the plug-in.)
absl::StatusOr<std::unique_ptr<ReduceOps>> MakeCudaReduceOps(Stream compute);

}  // namespace lockstep::nccl
