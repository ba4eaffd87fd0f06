// SPDX-License-Identifier: Apache-2.0
// Run under mpirun: the canonical sum over real MPI messages and windows has the bits of its definition.
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "common/rng.h"
#include "worker/comm/fastest_reduce.h"
#include "worker/comm/mpi/mpi_communicator.h"
#include "worker/comm/tree_reduce.h"

namespace lockstep {
namespace {

float Value(int shard, int64_t i) {
  const RngStream stream{3, RngPurpose::kInit, static_cast<uint64_t>(shard)};
  return (stream.Uniform(static_cast<uint64_t>(i)) - 0.5f) * static_cast<float>(1 << (shard % 11));
}

float TreeSum(int level, int index, int64_t i) {
  if (level == 0) return Value(index, i);
  return TreeSum(level - 1, 2 * index, i) + TreeSum(level - 1, 2 * index + 1, i);
}

// False where a bit differs.
bool Check(Communicator& communicator, int shards, int64_t elements, int steps) {
  auto made = TreeReducer::Create(&communicator, shards, elements, 1);
  if (!made.ok()) return false;
  TreeReducer& reducer = **made;
  const ShardRange owned = OwnedShards(communicator.rank(), communicator.size(), shards);
  for (int step = 0; step < steps; ++step) {
    for (int shard = owned.first; shard < owned.end; ++shard) {
      const std::span<float> gradient = reducer.shard_gradient();
      for (int64_t i = 0; i < elements; ++i) gradient[static_cast<size_t>(i)] = Value(shard, i);
      reducer.shard_scalars()[0] = 1;
      reducer.CommitShard();
    }
    if (absl::Status s = reducer.Finish(); !s.ok()) {
      std::fprintf(stderr, "rank %d: %s\n", communicator.rank(), s.ToString().c_str());
      return false;
    }
  }
  for (int64_t i = 0; i < elements; ++i) {
    const float expected = TreeSum(std::countr_zero(static_cast<unsigned>(shards)), 0, i);
    if (std::memcmp(&expected, &reducer.sum()[static_cast<size_t>(i)], sizeof(float)) != 0) {
      std::fprintf(stderr, "rank %d: %d shards, %ld elements: element %ld differs\n", communicator.rank(), shards,
                   static_cast<long>(elements), static_cast<long>(i));
      return false;
    }
  }
  return reducer.scalar_sums()[0] == shards;
}

// MPI's own sum: as exact as numbers allow whose sum is the same in any order, and alike on all ranks.
bool CheckFastest(Communicator& communicator, int shards, int64_t elements, int steps) {
  FastestReducer reducer(&communicator, shards, elements, 1);
  const ShardRange owned = OwnedShards(communicator.rank(), communicator.size(), shards);
  const auto value = [](int shard, int64_t i) { return static_cast<float>((i + shard) % 1000); };
  for (int step = 0; step < steps; ++step) {
    for (int shard = owned.first; shard < owned.end; ++shard) {
      const std::span<float> gradient = reducer.shard_gradient();
      for (int64_t i = 0; i < elements; ++i) gradient[static_cast<size_t>(i)] = value(shard, i);
      reducer.shard_scalars()[0] = 1;
      reducer.CommitShard();
    }
    if (absl::Status s = reducer.Finish(); !s.ok()) {
      std::fprintf(stderr, "rank %d: %s\n", communicator.rank(), s.ToString().c_str());
      return false;
    }
  }
  for (int64_t i = 0; i < elements; ++i) {
    float expected = 0;
    for (int shard = 0; shard < shards; ++shard) expected += value(shard, i);
    if (reducer.sum()[static_cast<size_t>(i)] != expected) {
      std::fprintf(stderr, "rank %d: the fastest sum of element %ld is wrong\n", communicator.rank(),
                   static_cast<long>(i));
      return false;
    }
  }
  return reducer.scalar_sums()[0] == shards && reducer.finite() == true;
}

int Main(int ranks_per_host) {
  auto communicator = MakeMpiCommunicator({.ranks_per_host = ranks_per_host});
  if (!communicator.ok()) return 1;
  const size_t host = (*communicator)->host_ranks().size();
  if (ranks_per_host > 0 && host > static_cast<size_t>(ranks_per_host)) return 1;
  bool good = true;
  for (int shards : {4, 8, 16}) {
    for (int64_t elements : {1, 17, 4096, 300'001}) {
      good = good && Check(**communicator, shards, elements, 3) && CheckFastest(**communicator, shards, elements, 3);
    }
  }
  if (!good) return 1;
  FinalizeMpi();
  return 0;
}

}  // namespace
}  // namespace lockstep

// [ranks per pretended host]
int main(int argc, char** argv) { return lockstep::Main(argc > 1 ? std::atoi(argv[1]) : 0); }
