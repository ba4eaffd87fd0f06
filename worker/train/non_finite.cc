// SPDX-License-Identifier: Apache-2.0
#include "worker/train/non_finite.h"

#include <algorithm>
#include <span>
#include <tuple>
#include <vector>

#include "common/status_macros.h"

namespace lockstep {

absl::StatusOr<NonFiniteRecord> FirstOfAll(Communicator& communicator, const NonFiniteRecord& mine) {
  std::vector<NonFiniteRecord> all(static_cast<size_t>(communicator.size()), mine);
  const auto bytes = [&](int rank) { return std::as_writable_bytes(std::span(&all[static_cast<size_t>(rank)], 1)); };
  std::vector<Message> sends, receives;
  for (int peer = 0; peer < communicator.size(); ++peer) {
    if (peer == communicator.rank()) continue;
    sends.push_back({peer, bytes(communicator.rank())});
    receives.push_back({peer, bytes(peer)});
  }
  LOCKSTEP_RETURN_IF_ERROR(communicator.Exchange(sends, receives));
  return *std::ranges::min_element(all, [](const NonFiniteRecord& a, const NonFiniteRecord& b) {
    return std::tie(a.place, a.shard, a.rank) < std::tie(b.place, b.shard, b.rank);
  });
}

}  // namespace lockstep
