// SPDX-License-Identifier: Apache-2.0
// lockstep-bench-allreduce, started by mpirun: how long the canonical sum over the ranks takes, beside what
// REDUCTION_FASTEST does, beside MPI_Allreduce of the same gradients and beside copying as many bytes as the sum has to
// move. Before each run every rank writes its gradient anew, as a backward pass does, so that it lies in that rank's
// cache.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "worker/comm/fastest_reduce.h"
#include "worker/comm/mpi/mpi_communicator.h"
#include "worker/comm/tree_reduce.h"

namespace lockstep {
namespace {

struct Options {
  bool json = false;
  int64_t min_bytes = 4096;
  int64_t max_bytes = int64_t{64} << 20;
};

// Microseconds, of the slowest rank; the median of interleaved runs.
struct Row {
  int64_t bytes = 0;
  // Each rank has its slice, which is what the optimizer takes; all of the sum; REDUCTION_FASTEST; MPI_Allreduce;
  // copies.
  double canonical = 0, gathered = 0, fastest = 0, mpi = 0, copy = 0;
};

enum Way { kCanonical, kGathered, kFastest, kMpi, kCopy, kWays };

class Bench {
 public:
  Bench(Communicator* communicator, int64_t elements)
      : communicator_(communicator),
        elements_(elements),
        from_(static_cast<size_t>(elements)),
        to_(static_cast<size_t>(elements)) {}

  absl::StatusOr<Row> Run() {
    LOCKSTEP_ASSIGN_OR_RETURN(reducer_, TreeReducer::Create(communicator_, Shards(), elements_, 2));
    fastest_ = std::make_unique<FastestReducer>(communicator_, Shards(), elements_, 2);
    const auto bytes = static_cast<int64_t>(elements_ * sizeof(float));
    const int64_t rounds = std::clamp<int64_t>((int64_t{256} << 20) / bytes, 7, 400);
    std::vector<double> times[kWays];
    for (int64_t round = -2; round < rounds; ++round) {
      for (int way = 0; way < kWays; ++way) {
        Fill(way);
        MPI_Barrier(MPI_COMM_WORLD);
        const auto began = std::chrono::steady_clock::now();
        LOCKSTEP_RETURN_IF_ERROR(Do(way));
        const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
        if (way != kCopy) LOCKSTEP_RETURN_IF_ERROR(Check(way));
        if (round >= 0) times[way].push_back(took.count());
      }
    }
    return Row{bytes,
               Median(times[kCanonical]),
               Median(times[kGathered]),
               Median(times[kFastest]),
               Median(times[kMpi]),
               Median(times[kCopy])};
  }

 private:
  // One a rank, where the tree may be that small.
  int Shards() const {
    int shards = 1;
    while (shards < communicator_->size()) shards *= 2;
    return shards;
  }
  ShardRange Owned() const { return OwnedShards(communicator_->rank(), communicator_->size(), Shards()); }

  // Whole numbers, whose sum is the same in any order.
  static float Value(int shard, int64_t i) { return static_cast<float>((i + shard) % 1000); }

  void Fill(int way) {
    for (int shard = Owned().first; shard < Owned().end; ++shard) {
      Reducer* const reducer = ReducerOf(way);
      float* to = reducer != nullptr ? reducer->shard_gradient().data() : from_.data();
      // MPI's has no shards: the rank's sum is what it begins with.
      const bool more = reducer == nullptr && shard > Owned().first;
      for (int64_t i = 0; i < elements_; ++i) to[i] = (more ? to[i] : 0.0F) + Value(shard, i);
      if (reducer != nullptr) reducer->CommitShard();
    }
  }

  // Null: the gradient lies in from_.
  Reducer* ReducerOf(int way) const {
    if (way == kFastest) return fastest_.get();
    return way == kCanonical || way == kGathered ? reducer_.get() : nullptr;
  }

  absl::Status Do(int way) {
    switch (way) {
      case kCanonical:
        return reducer_->FinishSlice();
      case kGathered:
        return reducer_->Finish();
      case kFastest:
        return fastest_->Finish();
      case kMpi:
        MPI_Allreduce(from_.data(), to_.data(), static_cast<int>(elements_), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        return absl::OkStatus();
      default:
        // Each rank reads its slice of every rank's gradient and writes it once: half as much is copied.
        const int64_t n = communicator_->size();
        std::memcpy(to_.data(), from_.data(), static_cast<size_t>(elements_ * (n + 1) / (2 * n)) * sizeof(float));
        return absl::OkStatus();
    }
  }

  absl::Status Check(int way) {
    const ElementRange range = way == kCanonical ? reducer_->slice() : ElementRange{0, elements_};
    const float* sum = way == kMpi ? to_.data() : ReducerOf(way)->sum().data();
    for (const int64_t i : {range.first, range.first + range.count / 2, range.end() - 1}) {
      if (i < range.first || i >= range.end()) continue;
      float expected = 0;
      for (int shard = 0; shard < Shards(); ++shard) expected += Value(shard, i);
      if (sum[i] != expected) return absl::InternalError(absl::StrCat("element ", i, " has the wrong sum"));
    }
    return absl::OkStatus();
  }

  static double Median(std::vector<double>& times) {
    MPI_Allreduce(MPI_IN_PLACE, times.data(), static_cast<int>(times.size()), MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2));
    return times[times.size() / 2];
  }

  Communicator* communicator_;
  int64_t elements_;
  std::unique_ptr<TreeReducer> reducer_;
  std::unique_ptr<FastestReducer> fastest_;
  std::vector<float> from_, to_;
};

// Bytes of a gradient per second, and what each rank's wire would carry of them in a ring.
double AlgorithmGbs(const Row& row) { return static_cast<double>(row.bytes) / row.canonical / 1e3; }
double BusGbs(const Row& row, int ranks) { return AlgorithmGbs(row) * 2 * (ranks - 1) / ranks; }

std::string Json(const std::vector<Row>& rows, const Communicator& communicator) {
  std::string text =
      absl::StrFormat("{\"ranks\": %d, \"ranks_on_host\": %d, \"may_spin\": %s, \"rows\": [", communicator.size(),
                      communicator.host_ranks().size(), communicator.may_spin() ? "true" : "false");
  const char* separator = "\n";
  for (const Row& row : rows) {
    absl::StrAppendFormat(
        &text,
        "%s  {\"bytes\": %d, \"canonical_us\": %.3f, \"gathered_us\": %.3f, "
        "\"fastest_us\": %.3f, \"mpi_allreduce_us\": %.3f, \"copy_us\": %.3f, \"algorithm_gb_s\": %.3f, "
        "\"bus_gb_s\": %.3f}",
        separator, row.bytes, row.canonical, row.gathered, row.fastest, row.mpi, row.copy, AlgorithmGbs(row),
        BusGbs(row, communicator.size()));
    separator = ",\n";
  }
  return text + "\n]}\n";
}

std::string Table(const std::vector<Row>& rows, const Communicator& communicator) {
  std::string text =
      absl::StrFormat("%d ranks, %d on this host; median microseconds\n%11s %10s %10s %10s %13s %10s %9s %9s %9s %9s\n",
                      communicator.size(), communicator.host_ranks().size(), "bytes", "canonical", "gathered",
                      "FASTEST", "MPI_Allreduce", "copy", "alg GB/s", "bus GB/s", "vs MPI", "of copy");
  for (const Row& row : rows) {
    absl::StrAppendFormat(&text, "%11d %10.2f %10.2f %10.2f %13.2f %10.2f %9.2f %9.2f %8.1fx %8.0f%%\n", row.bytes,
                          row.canonical, row.gathered, row.fastest, row.mpi, row.copy, AlgorithmGbs(row),
                          BusGbs(row, communicator.size()), row.mpi / row.canonical, 100 * row.copy / row.canonical);
  }
  return text;
}

absl::Status Measure(const Options& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> communicator, MakeMpiCommunicator());
  // What a small network has lies between the powers.
  std::vector<int64_t> sizes{52 * 1024};
  for (int64_t bytes = 4096; bytes <= (int64_t{1} << 32); bytes *= 4) sizes.push_back(bytes);
  std::ranges::sort(sizes);
  std::vector<Row> rows;
  for (const int64_t bytes : sizes) {
    if (bytes < options.min_bytes || bytes > options.max_bytes) continue;
    LOCKSTEP_ASSIGN_OR_RETURN(const Row row, Bench(communicator.get(), bytes / 4).Run());
    rows.push_back(row);
  }
  if (communicator->rank() == 0) {
    std::fputs((options.json ? Json(rows, *communicator) : Table(rows, *communicator)).c_str(), stdout);
  }
  FinalizeMpi();
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app{"Times the sum over ranks beside MPI_Allreduce and a copy; start it with mpirun -np 2."};
  Options options;
  app.add_flag("--json", options.json, "Print JSON instead of a table");
  app.add_option("--min-bytes", options.min_bytes, "Smallest gradient")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 32));
  app.add_option("--max-bytes", options.max_bytes, "Largest gradient")->check(CLI::Range(int64_t{4}, int64_t{1} << 32));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Measure(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "lockstep-bench-allreduce: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::Main(argc, argv); }
