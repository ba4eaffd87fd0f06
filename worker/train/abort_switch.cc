// SPDX-License-Identifier: Apache-2.0
#include "worker/train/abort_switch.h"

#include <utility>

namespace lockstep {

void AbortSwitch::Pull() {
  const std::lock_guard lock(mutex_);
  pulled_.store(true);
  for (const std::function<void()>& abort : armed_) abort();
}

void AbortSwitch::Arm(std::function<void()> abort) {
  const std::lock_guard lock(mutex_);
  if (pulled_.load()) abort();
  armed_.push_back(std::move(abort));
}

void AbortSwitch::Disarm() {
  const std::lock_guard lock(mutex_);
  armed_.clear();
}

}  // namespace lockstep
