// SPDX-License-Identifier: Apache-2.0
// How a rank writes down when it got so far, see StartTimes.
#pragma once

#include <chrono>
#include <cstdint>

#include "common/clock.h"
#include "lockstep/v1/events.pb.h"

namespace lockstep {

inline void SetTime(Clock::Wall time, google::protobuf::Timestamp* to) {
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  to->set_seconds(nanos / 1'000'000'000);
  to->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

}  // namespace lockstep
