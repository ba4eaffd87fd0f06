// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/transfer.h"

#include <algorithm>
#include <cstring>

namespace lockstep::cuda {

Transfer::~Transfer() {
  for (const cudaEvent_t event : slot_free_) {
    if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
  }
  for (const cudaEvent_t event : half_done_) {
    if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
  }
  static_cast<void>(cudaFreeHost(memory_));
}

bool Transfer::Create(Context& context) {
  void* memory = nullptr;
  const size_t bytes = kSlots * kSlotBytes + 2 * kHalfBytes;
  if (!LOCKSTEP_CUDA_CHECK(context, cudaMallocHost(&memory, bytes))) return false;
  memory_ = static_cast<std::byte*>(memory);
  const auto make = [&](cudaEvent_t& event) {
    return LOCKSTEP_CUDA_CHECK(context, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  };
  return std::all_of(slot_free_.begin(), slot_free_.end(), make) &&
         std::all_of(half_done_.begin(), half_done_.end(), make);
}

void Transfer::ToDevice(Context& context, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  if (bytes > kSlotBytes) {
    return LargeToDevice(context, static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  }
  const size_t slot = next_++ % kSlots;
  std::byte* const place = memory_ + slot * kSlotBytes;
  // An event that was never recorded is done.
  if (!LOCKSTEP_CUDA_CHECK(context, cudaEventSynchronize(slot_free_[slot]))) return;
  std::memcpy(place, from, bytes);
  LOCKSTEP_CUDA_CHECK(context, cudaMemcpyAsync(to, place, bytes, cudaMemcpyHostToDevice, context.stream));
  LOCKSTEP_CUDA_CHECK(context, cudaEventRecord(slot_free_[slot], context.stream));
}

void Transfer::LargeToDevice(Context& context, std::byte* to, const std::byte* from, size_t bytes) {
  for (size_t at = 0, i = 0; at < bytes; at += kHalfBytes, i = 1 - i) {
    const size_t count = std::min(kHalfBytes, bytes - at);
    if (!LOCKSTEP_CUDA_CHECK(context, cudaEventSynchronize(half_done_[i]))) return;
    std::memcpy(half(i), from + at, count);
    LOCKSTEP_CUDA_CHECK(context, cudaMemcpyAsync(to + at, half(i), count, cudaMemcpyHostToDevice, context.stream));
    LOCKSTEP_CUDA_CHECK(context, cudaEventRecord(half_done_[i], context.stream));
  }
}

void Transfer::ToHost(Context& context, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  if (bytes > kSlotBytes) {
    return LargeToHost(context, static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  }
  const size_t slot = next_++ % kSlots;
  std::byte* const place = memory_ + slot * kSlotBytes;
  LOCKSTEP_CUDA_CHECK(context, cudaMemcpyAsync(place, from, bytes, cudaMemcpyDeviceToHost, context.stream));
  if (LOCKSTEP_CUDA_CHECK(context, cudaStreamSynchronize(context.stream))) std::memcpy(to, place, bytes);
}

void Transfer::LargeToHost(Context& context, std::byte* to, const std::byte* from, size_t bytes) {
  const auto fetch = [&](size_t at, size_t i) {
    const size_t count = std::min(kHalfBytes, bytes - at);
    LOCKSTEP_CUDA_CHECK(context, cudaMemcpyAsync(half(i), from + at, count, cudaMemcpyDeviceToHost, context.stream));
    LOCKSTEP_CUDA_CHECK(context, cudaEventRecord(half_done_[i], context.stream));
  };
  fetch(0, 0);
  for (size_t at = 0, i = 0; at < bytes; at += kHalfBytes, i = 1 - i) {
    if (at + kHalfBytes < bytes) fetch(at + kHalfBytes, 1 - i);
    if (!LOCKSTEP_CUDA_CHECK(context, cudaEventSynchronize(half_done_[i]))) return;
    std::memcpy(to + at, half(i), std::min(kHalfBytes, bytes - at));
  }
}

}  // namespace lockstep::cuda
