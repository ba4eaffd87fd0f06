// SPDX-License-Identifier: Apache-2.0
// Tells watchers that a job has new events. Watchers read them from the store, each at its own pace, so a
// slow one costs no memory and misses nothing.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace lockstep::rpc {

class Watcher {
 public:
  virtual ~Watcher() = default;
  // There may be something new. Called from the coordinator's thread: must be short.
  virtual void Wake() = 0;
};

// Thread-safe.
class EventHub {
 public:
  void Subscribe(const std::string& job_id, std::weak_ptr<Watcher> watcher);
  void Notify(const std::string& job_id);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::vector<std::weak_ptr<Watcher>>> watchers_;
};

}  // namespace lockstep::rpc
