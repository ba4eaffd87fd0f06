// SPDX-License-Identifier: Apache-2.0
// Time as a dependency, so that tests decide what time it is.
#pragma once

#include <chrono>

namespace lockstep {

class Clock {
 public:
  using Monotonic = std::chrono::steady_clock::time_point;
  using Wall = std::chrono::system_clock::time_point;

  virtual ~Clock() = default;
  // For deadlines and durations.
  virtual Monotonic Now() const = 0;
  // For people only; never for a decision.
  virtual Wall WallNow() const = 0;
};

class SystemClock final : public Clock {
 public:
  Monotonic Now() const override { return std::chrono::steady_clock::now(); }
  Wall WallNow() const override { return std::chrono::system_clock::now(); }
};

// Stands still until told. Not thread-safe.
class FakeClock final : public Clock {
 public:
  Monotonic Now() const override { return now_; }
  Wall WallNow() const override { return wall_; }
  void Advance(std::chrono::nanoseconds by) {
    now_ += std::chrono::duration_cast<Monotonic::duration>(by);
    wall_ += std::chrono::duration_cast<Wall::duration>(by);
  }

 private:
  Monotonic now_{};
  Wall wall_{std::chrono::seconds(1'700'000'000)};
};

}  // namespace lockstep
