// SPDX-License-Identifier: Apache-2.0
// Names for what a thread enqueues, for a profiler that watches the process: Nsight Systems shows them above the
// device's kernels.
#pragma once

namespace lockstep {

// Of any thread; the ranges of a thread nest.
class RangeMarker {
 public:
  virtual ~RangeMarker() = default;
  virtual void Begin(const char* name) = 0;
  virtual void End() = 0;
};

// A range for as long as it lives. Null: nobody watches, and nothing is done.
class ScopedRange {
 public:
  ScopedRange(RangeMarker* marker, const char* name) : marker_(marker) {
    if (marker_ != nullptr) marker_->Begin(name);
  }
  ~ScopedRange() {
    if (marker_ != nullptr) marker_->End();
  }
  ScopedRange(const ScopedRange&) = delete;
  ScopedRange& operator=(const ScopedRange&) = delete;

 private:
  RangeMarker* marker_;
};

// What `work` returns, done in a range.
template <typename Work>
auto InRange(RangeMarker* marker, const char* name, const Work& work) {
  const ScopedRange range(marker, name);
  return work();
}

}  // namespace lockstep
