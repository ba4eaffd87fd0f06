// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/event_hub.h"

#include <algorithm>
#include <utility>

namespace lockstep::rpc {

void EventHub::Subscribe(const std::string& job_id, std::weak_ptr<Watcher> watcher) {
  const std::lock_guard lock(mutex_);
  auto& list = watchers_[job_id];
  std::erase_if(list, [](const auto& known) { return known.expired(); });
  list.push_back(std::move(watcher));
}

void EventHub::Notify(const std::string& job_id) {
  std::vector<std::shared_ptr<Watcher>> awake;
  {
    const std::lock_guard lock(mutex_);
    const auto it = watchers_.find(job_id);
    if (it == watchers_.end()) return;
    std::erase_if(it->second, [](const auto& known) { return known.expired(); });
    for (const auto& watcher : it->second) {
      if (auto live = watcher.lock()) awake.push_back(std::move(live));
    }
    if (it->second.empty()) watchers_.erase(it);
  }
  for (const auto& watcher : awake) watcher->Wake();
}

}  // namespace lockstep::rpc
