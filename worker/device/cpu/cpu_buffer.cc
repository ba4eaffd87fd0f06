// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep::cpu {
namespace {

constexpr size_t kAlignment = 64;
// From so many bytes on a buffer asks for pages of 2 MiB: walking down a matrix's columns, each row is on a page of
// its own, and there are more of them than a processor remembers.
constexpr size_t kHugePage = size_t{1} << 21;

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
  if (bytes > limit || bytes > SIZE_MAX - kHugePage) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes: this machine has ", limit,
                                                     " bytes of memory; use a smaller model or batch"));
  }
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", bytes, " bytes: the system refused; free memory or use a smaller batch"));
  }
  // A wish, which the system may not grant.
  if (alignment == kHugePage) static_cast<void>(madvise(data, rounded, MADV_HUGEPAGE));
  std::memset(data, 0, rounded);
  return std::make_unique<HostBuffer>(data, bytes);
}

}  // namespace lockstep::cpu
