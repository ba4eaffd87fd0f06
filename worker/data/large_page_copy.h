// SPDX-License-Identifier: Apache-2.0
// LargePageCopy: a copy of a table in pages of 2 MiB. Samples are taken from anywhere in a table; where it is larger
// than the pages that a processor remembers, each sample costs a walk through the page tables, which takes a small
// network longer than reading the sample.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace lockstep {

class LargePageCopy {
 public:
  // Null where it would bring nothing: the processor remembers all pages of so few bytes; there are so many that a copy
  // is too dear; or the system gives no large pages. `table` outlives the copying.
  static std::unique_ptr<LargePageCopy> Begin(const void* table, size_t bytes);

  // Copies some more, a fraction of a millisecond. True: all is copied.
  bool Advance();
  // All of it, once Advance has said so. The copy's.
  void* data() const { return copy_.get(); }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  LargePageCopy(const void* table, size_t bytes, void* memory)
      : table_(static_cast<const std::byte*>(table)), bytes_(bytes), copy_(memory) {}

  const std::byte* table_;
  size_t bytes_;
  size_t copied_ = 0;
  std::unique_ptr<void, Free> copy_;
};

}  // namespace lockstep
