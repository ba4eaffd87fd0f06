// SPDX-License-Identifier: Apache-2.0
// GrpcSession: what one rank and the coordinator say to each other. A stream that breaks is opened
// again; what the coordinator had not stored is sent again.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/v1/worker_service.pb.h"
#include "worker/train/coordinator_link.h"

namespace lockstep {

class GrpcSession : public CoordinatorLink {
 public:
  // Says hello and waits for the welcome. `on_lost` is called at most once, from the session's own
  // thread, when the coordinator does not want this rank any more. UNAVAILABLE where nobody answers
  // within `timeout`; otherwise what the coordinator said.
  static absl::StatusOr<std::unique_ptr<GrpcSession>> Connect(const std::string& address, lockstep::v1::Hello hello,
                                                              std::chrono::milliseconds timeout,
                                                              std::function<void(const std::string&)> on_lost);

  virtual const lockstep::v1::Welcome& welcome() const = 0;
  // What is computed on, for the hello of each stream from now on.
  virtual void set_device(std::string description) = 0;
  // As if the coordinator had asked. Any thread.
  virtual void AskToStop(StopRequest request) = 0;
  // Of rank 0: what the group meets under on its GPUs, for the other ranks of this generation. Never waits.
  virtual void GiveGroupId(std::string id) = 0;
  // Of the others: waits until rank 0 has given it. DEADLINE_EXCEEDED past `timeout`, ABORTED where the session ends.
  virtual absl::StatusOr<std::string> AwaitGroupId(std::chrono::milliseconds timeout) = 0;
  // Sends what is queued and a last word, waits until they are stored (at most `timeout`), and ends.
  virtual void Close(lockstep::v1::Goodbye goodbye, std::chrono::milliseconds timeout) = 0;
};

}  // namespace lockstep
