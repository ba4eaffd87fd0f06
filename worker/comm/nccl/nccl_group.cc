// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/nccl/nccl_group.h"

#include <sched.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep::nccl {

namespace {

// So many looks cost less than a sleep.
constexpr int kLooksBeforeSleep = 2000;
constexpr std::chrono::microseconds kSleep{100};

const char* WhatToDo(int result) {
  switch (result) {
    case kUnhandledCudaError:
      return "the GPU or an earlier call on it failed: look for the first error in this rank's log, and run with "
             "NCCL_DEBUG=WARN";
    case kSystemError:
      return "the network or shared memory failed: NCCL_SOCKET_IFNAME must name an interface over which the hosts "
             "reach "
             "each other, and /dev/shm must have room; NCCL_DEBUG=INFO says more";
    case kRemoteError:
      return "another rank has ended or lost its connection: its log says why";
    default:
      return "run with NCCL_DEBUG=INFO to see more";
  }
}

}  // namespace

absl::StatusOr<std::string> NcclGroup::MakeId(const NcclApi& api) {
  UniqueId id;
  const int result = api.GetUniqueId(&id);
  if (result != kSuccess) {
    return absl::UnavailableError(
        absl::StrCat("NCCL cannot make a place to meet: ", api.GetErrorString(result), "; ", WhatToDo(result)));
  }
  return std::string(id.bytes.data(), id.bytes.size());
}

NcclGroup::NcclGroup(const NcclApi* api, GroupOptions options) : api_(api), options_(std::move(options)) {}

NcclGroup::~NcclGroup() {
  if (comm_ != nullptr) Abort();
}

absl::StatusOr<std::unique_ptr<NcclGroup>> NcclGroup::Join(const NcclApi* api, const std::string& id,
                                                           GroupOptions options) {
  UniqueId unique;
  if (id.size() != unique.bytes.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the group's id has ", id.size(), " bytes instead of ",
                                                   unique.bytes.size(),
                                                   ": rank 0 and this one are of different versions"));
  }
  std::ranges::copy(id, unique.bytes.begin());
  std::unique_ptr<NcclGroup> group(new NcclGroup(api, std::move(options)));
  LOCKSTEP_RETURN_IF_ERROR(group->Meet(unique));
  return group;
}

absl::Status NcclGroup::Meet(const UniqueId& id) {
  Config config;
  int result = kSuccess;
  {
    const std::lock_guard lock(mutex_);
    result = api_->CommInitRankConfig(&comm_, options_.size, id, options_.rank, &config);
  }
  return Settle("to meet the other ranks", result);
}

int NcclGroup::Look() {
  // Another thread that aborts holds it until this one has let go of what was recorded.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return kInProgress;
  if (comm_ == nullptr) return kSuccess;
  int state = kSuccess;
  const int result = api_->CommGetAsyncError(comm_, &state);
  return result == kSuccess || result == kInProgress ? state : result;
}

absl::Status NcclGroup::Settle(const char* what, int result) {
  const auto deadline = options_.clock->Now() + options_.timeout;
  for (int looks = 0; result == kSuccess || result == kInProgress; ++looks) {
    if (given_up()) {
      GiveUp();
      return Aborted(what);
    }
    result = Look();
    if (result == kSuccess) return aborted() ? Aborted(what) : absl::OkStatus();
    if (result == kInProgress && options_.clock->Now() > deadline) return TimedOut(what);
    if (result == kInProgress) Pause(looks);
  }
  return Failed(what, result);
}

absl::Status NcclGroup::Enqueue(const char* what, absl::FunctionRef<int(Comm)> calls) {
  int result = kSuccess;
  {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || comm_ == nullptr) return Aborted(what);
    result = api_->GroupStart();
    if (result == kSuccess) {
      result = calls(comm_);
      // Also after an error: the thread would stay inside of the group.
      const int ended = api_->GroupEnd();
      if (result == kSuccess || result == kInProgress) result = ended;
    }
  }
  return Settle(what, result);
}

absl::Status NcclGroup::Await(const char* what, absl::FunctionRef<absl::StatusOr<bool>()> done) {
  const auto deadline = options_.clock->Now() + options_.timeout;
  for (int looks = 0;; ++looks) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool over, done());
    LOCKSTEP_RETURN_IF_ERROR(Check(what));
    if (over) return absl::OkStatus();
    if (options_.clock->Now() > deadline) return TimedOut(what);
    Pause(looks);
  }
}

absl::Status NcclGroup::Check(const char* what) {
  if (aborted()) return Aborted(what);
  const int result = Look();
  // What an abort has ended looks like a failure.
  if (aborted()) return Aborted(what);
  return result == kSuccess || result == kInProgress ? absl::OkStatus() : Failed(what, result);
}

void NcclGroup::Abort() {
  aborted_.store(true, std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  // Once: it frees the communicator.
  if (Comm comm = std::exchange(comm_, nullptr)) api_->CommAbort(comm);
}

void NcclGroup::GiveUp() {
  if (release_) release_();
  Abort();
}

absl::Status NcclGroup::Close() {
  int result = kSuccess;
  {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return aborted() ? Aborted("to part") : absl::OkStatus();
    result = api_->CommFinalize(comm_);
  }
  LOCKSTEP_RETURN_IF_ERROR(Settle("to part", result));
  const std::lock_guard lock(mutex_);
  if (Comm comm = std::exchange(comm_, nullptr)) api_->CommDestroy(comm);
  return absl::OkStatus();
}

absl::Status NcclGroup::Failed(const char* what, int result) {
  std::string words = api_->GetErrorString(result);
  {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    const char* last = !lock.owns_lock() || comm_ == nullptr ? nullptr : api_->GetLastError(comm_);
    if (last != nullptr && *last != '\0') absl::StrAppend(&words, " (", last, ")");
  }
  GiveUp();
  return absl::UnavailableError(absl::StrCat("rank ", options_.rank, " of ", options_.size, " asked NCCL ", what, ": ",
                                             words, "; ", WhatToDo(result)));
}

absl::Status NcclGroup::TimedOut(const char* what) {
  GiveUp();
  return absl::DeadlineExceededError(absl::StrCat(
      "rank ", options_.rank, " of ", options_.size, " asked NCCL ", what, " and it took longer than ",
      options_.timeout.count() / 1000.0,
      " s: a rank is gone or hangs, or the hosts do not reach each other over NCCL_SOCKET_IFNAME (a firewall?); "
      "NCCL_DEBUG=INFO says more"));
}

absl::Status NcclGroup::Aborted(const char* what) const {
  return absl::AbortedError(absl::StrCat("rank ", options_.rank, " was told to give up while it asked NCCL ", what));
}

void NcclGroup::Pause(int looks) const {
  if (options_.pause) {
    options_.pause();
  } else if (looks < kLooksBeforeSleep) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(kSleep);
  }
}

}  // namespace lockstep::nccl
