// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_buffer.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep::cpu {
namespace {

constexpr size_t kAlignment = 64;

class HostBuffer : public Buffer {
 public:
  HostBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  ~HostBuffer() override { std::free(data_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  void* data() const override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

// Linux grants more than it has and kills later, so ask how much there is at all.
size_t PhysicalBytes() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) : SIZE_MAX;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t bytes) {
  const size_t limit = PhysicalBytes();
  if (bytes > limit || bytes > SIZE_MAX - kAlignment) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes: this machine has ", limit,
                                                     " bytes of memory; use a smaller model or batch"));
  }
  const size_t rounded = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* data = std::aligned_alloc(kAlignment, rounded);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", bytes, " bytes: the system refused; free memory or use a smaller batch"));
  }
  std::memset(data, 0, rounded);
  return std::make_unique<HostBuffer>(data, bytes);
}

}  // namespace lockstep::cpu
