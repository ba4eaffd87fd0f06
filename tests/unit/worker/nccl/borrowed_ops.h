// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "worker/comm/nccl/reduce_ops.h"

namespace lockstep::nccl {

// A rank's ops, which a reducer may own.
class BorrowedOps final : public ReduceOps {
 public:
  explicit BorrowedOps(ReduceOps& ops) : ops_(ops) {}
  Stream stream(Lane lane) const override { return ops_.stream(lane); }
  absl::StatusOr<void*> Allocate(size_t bytes) override { return ops_.Allocate(bytes); }
  absl::StatusOr<void*> AllocateHost(size_t bytes) override { return ops_.AllocateHost(bytes); }
  void Copy(Lane lane, void* to, const void* from, size_t bytes) override { ops_.Copy(lane, to, from, bytes); }
  void Order(Lane first, Lane second) override { ops_.Order(first, second); }
  void Zero(Lane lane, void* data, size_t bytes) override { ops_.Zero(lane, data, bytes); }
  void Add(Lane lane, const TreeAdd<float>& args) override { ops_.Add(lane, args); }
  void Add(Lane lane, const TreeAdd<double>& args) override { ops_.Add(lane, args); }
  void Mark(Lane lane) override { ops_.Mark(lane); }
  absl::StatusOr<bool> Reached() override { return ops_.Reached(); }

 private:
  ReduceOps& ops_;
};

}  // namespace lockstep::nccl
