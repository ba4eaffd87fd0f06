// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/timer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/device/cuda/cuda_context.h"
#include "worker/device/cuda/cuda_device.h"

namespace lockstep::cuda {

namespace {

class EventTimer final : public DeviceTimer {
 public:
  explicit EventTimer(cudaStream_t stream) : stream_(stream) {}
  ~EventTimer() override {
    for (const cudaEvent_t event : events_) static_cast<void>(cudaEventDestroy(event));
  }
  EventTimer(const EventTimer&) = delete;
  EventTimer& operator=(const EventTimer&) = delete;

  absl::Status Create(int capacity) {
    // One more, since times are told from the last mark of the Read before.
    const size_t count = static_cast<size_t>(capacity) + 1;
    events_.reserve(count);
    seconds_.reserve(count);
    while (events_.size() < count) {
      cudaEvent_t event = nullptr;
      if (!Check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreateWithFlags", __LINE__)) break;
      events_.push_back(event);
    }
    return status();
  }

  int capacity() const override { return static_cast<int>(events_.size()) - 1; }
  void Mark() override {
    if (marks_ == static_cast<size_t>(capacity())) return failure_.Note("Mark", __FILE__, __LINE__, "too many marks");
    Check(cudaEventRecord(events_[++marks_], stream_), "cudaEventRecord", __LINE__);
  }
  absl::StatusOr<std::span<const double>> Read() override {
    seconds_.clear();
    if (marks_ > 0) Check(cudaEventSynchronize(events_[marks_]), "cudaEventSynchronize", __LINE__);
    for (size_t i = 1; i <= marks_ && failure_.ok(); ++i) {
      float milliseconds = 0;
      // There was none before the first.
      const cudaEvent_t from = begun_ ? events_[0] : events_[1];
      Check(cudaEventElapsedTime(&milliseconds, from, events_[i]), "cudaEventElapsedTime", __LINE__);
      // Each is rounded by itself.
      last_ = std::max(last_, origin_ + 1e-3 * static_cast<double>(milliseconds));
      seconds_.push_back(last_);
    }
    if (!failure_.ok()) return status();
    if (marks_ > 0) std::swap(events_[0], events_[marks_]);
    begun_ = begun_ || marks_ > 0;
    origin_ = last_;
    marks_ = 0;
    return std::span<const double>(seconds_);
  }

 private:
  bool Check(cudaError_t code, const char* call, int line) { return failure_.Check(code, call, __FILE__, line); }
  absl::Status status() const { return failure_.ok() ? absl::OkStatus() : absl::InternalError(failure_.text()); }

  const cudaStream_t stream_;
  Failure failure_;
  // [0] is the last mark of the Read before, once there was one; those since then follow.
  std::vector<cudaEvent_t> events_;
  size_t marks_ = 0;
  bool begun_ = false;
  // Seconds, of events_[0] and of the newest mark that was read.
  double origin_ = 0;
  double last_ = 0;
  std::vector<double> seconds_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceTimer>> MakeTimer(const Device& device, int capacity) {
  auto timer = std::make_unique<EventTimer>(static_cast<cudaStream_t>(StreamOf(device)));
  if (absl::Status created = timer->Create(capacity); !created.ok()) return created;
  return timer;
}

}  // namespace lockstep::cuda
