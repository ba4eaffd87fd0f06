// SPDX-License-Identifier: Apache-2.0
// Nothing here blocks inside MPI: a collective or a wait with a dead peer would spin for ever, so
// requests are tested in a loop that looks at the abort flag and the deadline.
#include "worker/comm/mpi/mpi_communicator.h"

#include <sched.h>

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr int kTag = 1;
// MPI counts are ints.
constexpr size_t kChunk = size_t{1} << 30;
// Looking at the clock costs more than a test of the requests.
constexpr int kTestsPerClock = 64;

absl::Status MpiStatus(int code, const char* call) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::InternalError(absl::StrCat(call, ": ", std::string(text, length)));
}

// Those that the host's ranks may run on together: before any of them is bound to some.
int AllowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

class MpiCommunicator final : public Communicator {
 public:
  absl::Status Build(const MpiOptions& options) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    LOCKSTEP_RETURN_IF_ERROR(MpiStatus(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host_), "MPI_Comm_split_type"));
    if (options.ranks_per_host > 0) {
      const MPI_Comm machine = host_;
      LOCKSTEP_RETURN_IF_ERROR(
          MpiStatus(MPI_Comm_split(machine, rank_ / options.ranks_per_host, 0, &host_), "MPI_Comm_split"));
    }
    MPI_Comm_set_errhandler(host_, MPI_ERRORS_RETURN);
    int size = 0;
    MPI_Comm_size(host_, &size);
    host_ranks_.resize(static_cast<size_t>(size));
    LOCKSTEP_RETURN_IF_ERROR(
        MpiStatus(MPI_Allgather(&rank_, 1, MPI_INT, host_ranks_.data(), 1, MPI_INT, host_), "MPI_Allgather"));
    may_spin_ = int64_t{size} * options.threads <= AllowedCores();
    return absl::OkStatus();
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  absl::Status Exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    requests_.clear();
    peers_.clear();
    for (const Message& m : receives) {
      if (absl::Status s = Start(m, /*send=*/false); !s.ok()) return s;
    }
    for (const Message& m : sends) {
      if (absl::Status s = Start(m, /*send=*/true); !s.ok()) return s;
    }
    return Await();
  }

  absl::Status AllReduce(std::span<float> values, std::span<double> scalars) override {
    requests_.clear();
    peers_.clear();
    LOCKSTEP_RETURN_IF_ERROR(StartSum(values, MPI_FLOAT));
    LOCKSTEP_RETURN_IF_ERROR(StartSum(scalars, MPI_DOUBLE));
    return Await();
  }

  std::span<const int> host_ranks() const override { return host_ranks_; }

  absl::StatusOr<HostWindow> MakeWindow(size_t bytes) override {
    // Only together with peers that are there: what follows cannot be interrupted.
    LOCKSTEP_RETURN_IF_ERROR(MeetHost());
    MPI_Info info;
    MPI_Info_create(&info);
    // Each part on pages of its own, zero and near the rank that touches them first.
    MPI_Info_set(info, "alloc_shared_noncontig", "true");
    void* mine = nullptr;
    MPI_Win handle;
    const int code = MPI_Win_allocate_shared(static_cast<MPI_Aint>(bytes), 1, info, host_, &mine, &handle);
    MPI_Info_free(&info);
    if (code != MPI_SUCCESS) return absl::ResourceExhaustedError(MpiStatus(code, "MPI_Win_allocate_shared").message());
    HostWindow window;
    for (int i = 0; i < static_cast<int>(host_ranks_.size()); ++i) {
      MPI_Aint size = 0;
      int unit = 0;
      void* part = nullptr;
      LOCKSTEP_RETURN_IF_ERROR(MpiStatus(MPI_Win_shared_query(handle, i, &size, &unit, &part), "MPI_Win_shared_query"));
      window.parts.emplace_back(static_cast<std::byte*>(part), static_cast<size_t>(size));
    }
    LOCKSTEP_RETURN_IF_ERROR(MeetHost());
    return window;
  }
  bool may_spin() const override { return may_spin_; }

  void Abort() override { aborted_.store(true, std::memory_order_relaxed); }
  bool aborted() const override { return aborted_.load(std::memory_order_relaxed); }
  void set_timeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const override { return timeout_; }

 private:
  // Until all ranks of the host are here.
  absl::Status MeetHost() {
    std::byte here{};
    std::vector<std::byte> there(host_ranks_.size());
    std::vector<Message> sends, receives;
    for (size_t i = 0; i < host_ranks_.size(); ++i) {
      if (host_ranks_[i] == rank_) continue;
      sends.push_back({host_ranks_[i], {&here, 1}});
      receives.push_back({host_ranks_[i], {&there[i], 1}});
    }
    return Exchange(sends, receives);
  }

  absl::Status Start(const Message& message, bool send) {
    for (size_t at = 0; at < message.bytes.size(); at += kChunk) {
      const int count = static_cast<int>(std::min(kChunk, message.bytes.size() - at));
      std::byte* p = message.bytes.data() + at;
      MPI_Request request;
      const int code = send ? MPI_Isend(p, count, MPI_BYTE, message.peer, kTag, MPI_COMM_WORLD, &request)
                            : MPI_Irecv(p, count, MPI_BYTE, message.peer, kTag, MPI_COMM_WORLD, &request);
      if (code != MPI_SUCCESS) return MpiStatus(code, send ? "MPI_Isend" : "MPI_Irecv");
      requests_.push_back(request);
      peers_.push_back(message.peer);
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status StartSum(std::span<T> values, MPI_Datatype type) {
    constexpr size_t kElements = kChunk / sizeof(T);
    for (size_t at = 0; at < values.size(); at += kElements) {
      const int count = static_cast<int>(std::min(kElements, values.size() - at));
      MPI_Request request;
      LOCKSTEP_RETURN_IF_ERROR(
          MpiStatus(MPI_Iallreduce(MPI_IN_PLACE, values.data() + at, count, type, MPI_SUM, MPI_COMM_WORLD, &request),
                    "MPI_Iallreduce"));
      requests_.push_back(request);
    }
    return absl::OkStatus();
  }

  absl::Status Await() {
    if (requests_.empty()) return absl::OkStatus();
    const auto deadline = std::chrono::steady_clock::now() + timeout_;
    for (int tests = 1;; ++tests) {
      int done = 0;
      const int code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
      if (code != MPI_SUCCESS) return MpiStatus(code, "MPI_Testall");
      if (done) return absl::OkStatus();
      if (aborted_.load(std::memory_order_relaxed)) return absl::AbortedError("the exchange was aborted");
      if (tests % kTestsPerClock == 0 && std::chrono::steady_clock::now() > deadline) return Silent();
      // The peer may need this core.
      sched_yield();
    }
  }

  absl::Status Silent() {
    if (peers_.empty()) return absl::DeadlineExceededError("not all ranks came to the sum in time");
    std::string silent;
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i] == MPI_REQUEST_NULL) continue;
      const std::string name = absl::StrCat(" ", peers_[i]);
      if (silent.find(name) == std::string::npos) silent += name;
    }
    return absl::DeadlineExceededError(absl::StrCat("no message in time from or to rank(s)", silent));
  }

  int rank_ = 0;
  int size_ = 1;
  // Of this host's ranks.
  MPI_Comm host_ = MPI_COMM_NULL;
  std::vector<int> host_ranks_;
  bool may_spin_ = false;
  std::chrono::milliseconds timeout_{60'000};
  std::atomic<bool> aborted_{false};
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeMpiCommunicator(const MpiOptions& options) {
  int provided = 0;
  if (absl::Status s = MpiStatus(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
      !s.ok()) {
    return s;
  }
  if (provided < MPI_THREAD_FUNNELED) {
    return absl::FailedPreconditionError("this MPI was built without MPI_THREAD_FUNNELED; install one that has it");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  auto communicator = std::make_unique<MpiCommunicator>();
  LOCKSTEP_RETURN_IF_ERROR(communicator->Build(options));
  return communicator;
}

void FinalizeMpi() { MPI_Finalize(); }

}  // namespace lockstep
