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

// False where an element of the sum of `shards` gradients is not bit for bit what is expected. value(shard, i) is a
// gradient's element, expected(i) one of the sum.
template <typename Gradient, typename Expected>
bool Sums(Reducer& reducer, const Communicator& communicator, int shards, int64_t elements, Gradient value,
          Expected expected) {
  const ShardRange owned = OwnedShards(communicator.rank(), communicator.size(), shards);
  for (int step = 0; step < 3; ++step) {
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
    const float wanted = expected(i);
    if (std::memcmp(&wanted, &reducer.sum()[static_cast<size_t>(i)], sizeof(float)) != 0) {
      std::fprintf(stderr, "rank %d: %d shards, %ld elements: element %ld differs\n", communicator.rank(), shards,
                   static_cast<long>(elements), static_cast<long>(i));
      return false;
    }
  }
  return reducer.scalar_sums()[0] == shards && reducer.finite() == true;
}

bool Check(Communicator& communicator, int shards, int64_t elements) {
  auto reducer = TreeReducer::Create(&communicator, shards, elements, 1);
  return reducer.ok() && Sums(**reducer, communicator, shards, elements, Value, [&](int64_t i) {
           return TreeSum(std::countr_zero(static_cast<unsigned>(shards)), 0, i);
         });
}

// MPI's own sum, of whole numbers, whose sum is the same in any order.
bool CheckFastest(Communicator& communicator, int shards, int64_t elements) {
  FastestReducer reducer(&communicator, shards, elements, 1);
  const auto value = [](int shard, int64_t i) { return static_cast<float>((i + shard) % 1000); };
  return Sums(reducer, communicator, shards, elements, value, [&](int64_t i) {
    float sum = 0;
    for (int shard = 0; shard < shards; ++shard) sum += value(shard, i);
    return sum;
  });
}

int Main(int ranks_per_host) {
  auto communicator = MakeMpiCommunicator({.ranks_per_host = ranks_per_host});
  if (!communicator.ok()) return 1;
  const size_t host = (*communicator)->host_ranks().size();
  if (ranks_per_host > 0 && host > static_cast<size_t>(ranks_per_host)) return 1;
  bool good = true;
  for (int shards : {4, 8, 16}) {
    for (int64_t elements : {1, 17, 4096, 300'001}) {
      good = good && Check(**communicator, shards, elements) && CheckFastest(**communicator, shards, elements);
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
