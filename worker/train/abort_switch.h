// SPDX-License-Identifier: Apache-2.0
// AbortSwitch: what must end at once when the coordinator is lost.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

namespace lockstep {

// Thread-safe.
class AbortSwitch {
 public:
  // Calls all that is armed; what is armed later is called at once.
  void Pull();
  const std::atomic<bool>& pulled() const { return pulled_; }
  // `abort` does not wait, and does not call the switch.
  void Arm(std::function<void()> abort);
  // Forgets what is armed, and returns once none of it is being called.
  void Disarm();

 private:
  std::atomic<bool> pulled_{false};
  std::mutex mutex_;
  std::vector<std::function<void()>> armed_;
};

}  // namespace lockstep
