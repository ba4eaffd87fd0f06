// SPDX-License-Identifier: Apache-2.0
#include "worker/data/large_page_copy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace lockstep {
namespace {

TEST(LargePageCopyTest, CopiesBitByBit) {
  std::ifstream modes("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string mode;
  const bool has = std::getline(modes, mode) && mode.find("[never]") == std::string::npos;
  std::vector<unsigned char> table((size_t{9} << 20) + 12'345);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<unsigned char>(i * 2'654'435'761U >> 13);
  const auto copy = LargePageCopy::Begin(table.data(), table.size());
  ASSERT_EQ(copy != nullptr, has);
  if (copy == nullptr) return;
  int parts = 1;
  while (!copy->Advance()) ++parts;
  // No step waits for all of it.
  EXPECT_GT(parts, 10);
  EXPECT_EQ(std::memcmp(copy->data(), table.data(), table.size()), 0);
}

TEST(LargePageCopyTest, WhatIsSmallOrVeryLargeStays) {
  const unsigned char byte = 0;
  EXPECT_EQ(LargePageCopy::Begin(&byte, 1), nullptr);
  EXPECT_EQ(LargePageCopy::Begin(&byte, size_t{1} << 40), nullptr);
}

}  // namespace
}  // namespace lockstep
