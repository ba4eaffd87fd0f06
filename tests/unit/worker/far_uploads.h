// SPDX-License-Identifier: Apache-2.0
// FarUploads: copies are done as late as they may be, so that memory which is overwritten too early shows.
#pragma once

#include <memory>
#include <vector>

#include "worker/device/uploads.h"

namespace lockstep {

class FarUploads final : public Uploads {
 public:
  explicit FarUploads(Device* device) : device_(device) {}

  absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t bytes) override {
    return std::make_unique<HostBuffer>(bytes);
  }
  void Begin(void* to, const void* from, size_t bytes) override { begun_.push_back({to, from, bytes}); }
  void Join() override { Finish(); }
  void Finish() override {
    for (const Copy& copy : begun_) device_->CopyFromHost(copy.to, copy.from, copy.bytes);
    begun_.clear();
  }

 private:
  class HostBuffer final : public Buffer {
   public:
    explicit HostBuffer(size_t bytes) : memory_(bytes) {}
    void* data() const override { return const_cast<std::byte*>(memory_.data()); }
    size_t bytes() const override { return memory_.size(); }

   private:
    std::vector<std::byte> memory_;
  };
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };

  Device* device_;
  std::vector<Copy> begun_;
};

}  // namespace lockstep
