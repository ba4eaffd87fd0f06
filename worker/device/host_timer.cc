// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/device/device_timer.h"

namespace lockstep {

namespace {

class HostTimer final : public DeviceTimer {
 public:
  explicit HostTimer(int capacity) : capacity_(capacity) {
    marks_.reserve(static_cast<size_t>(capacity));
    seconds_.reserve(static_cast<size_t>(capacity));
  }

  int capacity() const override { return capacity_; }
  void Mark() override {
    if (marks_.size() == static_cast<size_t>(capacity_)) {
      ++lost_;
      return;
    }
    marks_.push_back(Clock::now());
  }
  absl::StatusOr<std::span<const double>> Read() override {
    if (lost_ > 0) return absl::InternalError(absl::StrCat(lost_, " marks more than the timer has room for"));
    seconds_.clear();
    for (const Clock::time_point mark : marks_) {
      if (!first_.has_value()) first_ = mark;
      seconds_.push_back(std::chrono::duration<double>(mark - *first_).count());
    }
    marks_.clear();
    return std::span<const double>(seconds_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  const int capacity_;
  int lost_ = 0;
  std::optional<Clock::time_point> first_;
  std::vector<Clock::time_point> marks_;
  std::vector<double> seconds_;
};

}  // namespace

std::unique_ptr<DeviceTimer> MakeHostTimer(int capacity) { return std::make_unique<HostTimer>(capacity); }

}  // namespace lockstep
