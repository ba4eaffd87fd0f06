// SPDX-License-Identifier: Apache-2.0
// Copies between host and device through page-locked memory, which the GPU reads and writes by itself.
#pragma once

#include <array>
#include <cstddef>

#include "worker/device/cuda/cuda_context.h"

namespace lockstep::cuda {

// Of one thread.
class Transfer {
 public:
  Transfer() = default;
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Before the others; false: noted.
  bool Create(Context& context);
  // Returns when `from` may be changed; the bytes are on their way.
  void ToDevice(Context& context, void* to, const void* from, size_t bytes);
  // Returns when the bytes are there.
  void ToHost(Context& context, void* to, const void* from, size_t bytes);

 private:
  // Small copies do not wait for each other, as long as there are slots.
  static constexpr size_t kSlots = 32;
  static constexpr size_t kSlotBytes = size_t{64} << 10;
  // Of large copies one half is moved by the GPU while the host moves the other.
  static constexpr size_t kHalfBytes = size_t{4} << 20;

  void LargeToDevice(Context& context, std::byte* to, const std::byte* from, size_t bytes);
  void LargeToHost(Context& context, std::byte* to, const std::byte* from, size_t bytes);
  std::byte* half(size_t i) const { return memory_ + kSlots * kSlotBytes + i * kHalfBytes; }

  std::byte* memory_ = nullptr;
  std::array<cudaEvent_t, kSlots> slot_free_{};
  std::array<cudaEvent_t, 2> half_done_{};
  size_t next_ = 0;
};

}  // namespace lockstep::cuda
