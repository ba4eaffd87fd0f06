// SPDX-License-Identifier: Apache-2.0
// Communicator: what ranks say to each other. A backend offers one exchange primitive between any two ranks, and
// memory that the ranks of one host share; the canonical summation (tree_reduce.h) is written once over both, so
// every backend adds in the same order.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

// One message to or from a peer. Memory belongs to the caller and stays put until Exchange returns.
struct Message {
  int peer = 0;
  std::span<std::byte> bytes;
};

// Memory of all ranks of a host, mapped by each of them: parts[i] was asked for by the host's i-th rank
// (Communicator::host_ranks), starts on a page or a cache line, and was zero. Lives as long as the communicator.
struct HostWindow {
  std::vector<std::span<std::byte>> parts;
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

  // Both become their sums over all ranks, which come here alike, in whatever order is fastest: it may depend on the
  // number of ranks and the lengths, but every rank gets the same bits. Errors as of Exchange.
  virtual absl::Status AllReduce(std::span<float> values, std::span<double> scalars) = 0;

  // The ranks on this one's host, by rising number, this one among them. The same list on each of them.
  virtual std::span<const int> host_ranks() const = 0;
  // Takes memory that the host's ranks share, each part from a kLinePair (aligned.h) on; `bytes` may differ from rank
  // to rank. Every rank of the group calls it in the same order, between the same exchanges. Errors as of Exchange;
  // RESOURCE_EXHAUSTED where memory is short.
  virtual absl::StatusOr<HostWindow> MakeWindow(size_t bytes) = 0;
  // True: a waiting rank may keep its core busy for a moment, since each of the host's ranks has cores of its own.
  // Decided once, when the group is made.
  virtual bool may_spin() const = 0;

  // Makes whatever this rank waits for return ABORTED. Any thread.
  virtual void Abort() = 0;
  virtual bool aborted() const = 0;

  // How long one Exchange, or one wait for the host's ranks, may take.
  virtual void set_timeout(std::chrono::milliseconds timeout) = 0;
  virtual std::chrono::milliseconds timeout() const = 0;
};

// One rank; Exchange has nothing to do.
std::unique_ptr<Communicator> MakeSingleCommunicator();
// `size` ranks as threads of this process, for tests. Each is used by one thread. `ranks_per_host` > 0: the ranks are
// spread over as many pretended hosts as that takes, each of which shares memory only inside itself.
std::vector<std::unique_ptr<Communicator>> MakeThreadGroup(int size, int ranks_per_host = 0);

}  // namespace lockstep
