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

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
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

  void Abort() override { aborted_.store(true, std::memory_order_relaxed); }
  void set_timeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }

 private:
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
  std::chrono::milliseconds timeout_{60'000};
  std::atomic<bool> aborted_{false};
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeMpiCommunicator() {
  int provided = 0;
  if (absl::Status s = MpiStatus(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
      !s.ok()) {
    return s;
  }
  if (provided < MPI_THREAD_FUNNELED) {
    return absl::FailedPreconditionError("this MPI was built without MPI_THREAD_FUNNELED; install one that has it");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  return std::make_unique<MpiCommunicator>();
}

void FinalizeMpi() { MPI_Finalize(); }

}  // namespace lockstep
