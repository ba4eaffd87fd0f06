// SPDX-License-Identifier: Apache-2.0
// Communicator: what ranks say to each other. A backend offers one exchange primitive; the canonical
// summation (tree_reduce.h) is written once over it, so every backend adds in the same order.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

// One message to or from a peer. Memory belongs to the caller and stays put until Exchange returns.
struct Message {
  int peer = 0;
  std::span<std::byte> bytes;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Sends and receives all of the messages. Between two ranks messages match in order, and sizes must
  // agree. Every rank calls the same exchanges in the same order. Never blocks past the deadline:
  // ABORTED when Abort was called, DEADLINE_EXCEEDED naming the silent peers.
  virtual absl::Status Exchange(std::span<const Message> sends, std::span<const Message> receives) = 0;

  // Makes a waiting Exchange of this rank return ABORTED. Any thread.
  virtual void Abort() = 0;

  // How long one Exchange may take.
  virtual void set_timeout(std::chrono::milliseconds timeout) = 0;
};

// One rank; Exchange has nothing to do.
std::unique_ptr<Communicator> MakeSingleCommunicator();
// `size` ranks as threads of this process, for tests. Each is used by one thread.
std::vector<std::unique_ptr<Communicator>> MakeThreadGroup(int size);

}  // namespace lockstep
