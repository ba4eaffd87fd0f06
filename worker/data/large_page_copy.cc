// SPDX-License-Identifier: Apache-2.0
#include "worker/data/large_page_copy.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>

namespace lockstep {

namespace {

constexpr size_t kLargePage = size_t{1} << 21;
constexpr size_t kLeast = size_t{8} << 20;
constexpr size_t kMost = size_t{256} << 20;
constexpr size_t kAtOnce = size_t{512} << 10;

bool SystemHasLargePages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string modes;
  // "always [madvise] never": the chosen one is in brackets.
  return std::getline(file, modes) && modes.find("[never]") == std::string::npos;
}

}  // namespace

std::unique_ptr<LargePageCopy> LargePageCopy::Begin(const void* table, size_t bytes) {
  if (bytes < kLeast || bytes > kMost || !SystemHasLargePages()) return nullptr;
  const size_t rounded = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  void* memory = std::aligned_alloc(kLargePage, rounded);
  if (memory == nullptr) return nullptr;
  // A wish, which the system may not grant.
  static_cast<void>(madvise(memory, rounded, MADV_HUGEPAGE));
  return std::unique_ptr<LargePageCopy>(new LargePageCopy(table, bytes, memory));
}

bool LargePageCopy::Advance() {
  const size_t count = std::min(kAtOnce, bytes_ - copied_);
  std::memcpy(static_cast<std::byte*>(copy_.get()) + copied_, table_ + copied_, count);
  copied_ += count;
  return copied_ == bytes_;
}

}  // namespace lockstep
