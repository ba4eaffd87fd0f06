// SPDX-License-Identifier: Apache-2.0
#include "worker/data/prefetcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <vector>

#include "common/permutation.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSamples = 1000;
constexpr int64_t kRows = 7;

// Sample i is {i, i + 0.5} with the label 2 i. From the read on that has `fail_at`, it fails.
class CountingRows final : public RowSource {
 public:
  absl::Status Read(std::span<const int64_t> rows, float* features, void* targets) override {
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] == fail_at) return absl::DataLossError("sample is gone");
      features[2 * i] = static_cast<float>(rows[i]);
      features[2 * i + 1] = static_cast<float>(rows[i]) + 0.5f;
      static_cast<int32_t*>(targets)[i] = static_cast<int32_t>(2 * rows[i]);
    }
    ++reads;
    read.release();
    return absl::OkStatus();
  }
  int64_t bytes() const override { return 0; }

  std::atomic<int64_t> reads{0};
  std::counting_semaphore<> read{0};
  int64_t fail_at = -1;
};

class PrefetcherTest : public ::testing::Test {
 protected:
  PrefetcherTest() {
    table_.targets = {nullptr, Shape{kSamples}, DType::kI32};
    table_.samples = kSamples;
    table_.source = &rows_;
  }

  // Shuffled pieces of kRows samples, epoch after epoch.
  static std::optional<Piece> PieceAt(int64_t index) {
    const int64_t per_epoch = kSamples / kRows;
    return Piece{index / per_epoch, index % per_epoch * kRows, kRows};
  }
  std::unique_ptr<Prefetcher> Start(size_t slots, PieceOrder order = PieceAt) {
    feed_ = std::make_unique<Feed>(table_, v1::DatasetSpec(), Shape{2}, 5, true, kRows);
    memory_.assign(slots * kRows * 3, 0);
    std::vector<Prefetcher::Slot> ring;
    for (size_t i = 0; i < slots; ++i) {
      float* at = memory_.data() + i * kRows * 3;
      ring.push_back({at, at + kRows * 2});
    }
    return std::make_unique<Prefetcher>(feed_.get(), std::move(ring), std::move(order));
  }

  CountingRows rows_;
  DataTable table_;
  std::unique_ptr<Feed> feed_;
  std::vector<float> memory_;
};

TEST_F(PrefetcherTest, GivesEveryPieceInOrderWithAnyRing) {
  for (const size_t slots : {size_t{2}, size_t{3}, size_t{8}}) {
    const auto prefetcher = Start(slots);
    for (int64_t index = 0; index < 500; ++index) {
      const Piece piece = *PieceAt(index);
      const auto slot = prefetcher->Next(piece);
      ASSERT_TRUE(slot.ok()) << slot.status();
      const Permutation order(kSamples, 5, static_cast<uint64_t>(piece.epoch));
      for (int64_t i = 0; i < kRows; ++i) {
        const auto sample = static_cast<int32_t>(order(static_cast<uint64_t>(piece.first + i)));
        ASSERT_EQ(slot->features[2 * i], static_cast<float>(sample));
        ASSERT_EQ(slot->features[2 * i + 1], static_cast<float>(sample) + 0.5f);
        ASSERT_EQ(static_cast<const int32_t*>(slot->targets)[i], 2 * sample);
      }
    }
  }
}

TEST_F(PrefetcherTest, MakesAheadWhatTheRingHoldsAndNoMore) {
  const auto prefetcher = Start(4);
  for (int i = 0; i < 4; ++i) rows_.read.acquire();
  // One is taken; until the next call it is in use, so the ring stays full.
  ASSERT_TRUE(prefetcher->Next(*PieceAt(0)).ok());
  EXPECT_EQ(rows_.reads, 4);
  ASSERT_TRUE(prefetcher->Next(*PieceAt(1)).ok());
  rows_.read.acquire();
  EXPECT_EQ(rows_.reads, 5);
}

TEST_F(PrefetcherTest, EndsWhileTheRingIsFullOrHalfUsed) {
  for (int taken = 0; taken < 6; ++taken) {
    const auto prefetcher = Start(3);
    for (int i = 0; i < taken; ++i) ASSERT_TRUE(prefetcher->Next(*PieceAt(i)).ok());
  }
}

TEST_F(PrefetcherTest, AFailureComesAtItsPieceAndStays) {
  const Permutation order(kSamples, 5, 0);
  rows_.fail_at = static_cast<int64_t>(order(3 * kRows + 2));
  const auto prefetcher = Start(8);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(prefetcher->Next(*PieceAt(i)).ok());
  for (int i = 3; i < 6; ++i) EXPECT_EQ(prefetcher->Next(*PieceAt(i)).status(), absl::DataLossError("sample is gone"));
}

TEST_F(PrefetcherTest, AskingForAnotherPieceOrTooManyIsAnError) {
  auto prefetcher = Start(3);
  EXPECT_THAT(std::string(prefetcher->Next(*PieceAt(1)).status().message()), HasSubstr("another batch"));
  prefetcher = Start(3, [](int64_t index) { return index < 2 ? PieceAt(index) : std::nullopt; });
  EXPECT_TRUE(prefetcher->Next(*PieceAt(0)).ok());
  EXPECT_TRUE(prefetcher->Next(*PieceAt(1)).ok());
  EXPECT_EQ(prefetcher->Next(*PieceAt(2)).status().code(), absl::StatusCode::kInternal);
}

TEST_F(PrefetcherTest, RowsOfTheTableAreFollowed) {
  std::vector<int64_t> every_third;
  for (int64_t i = 0; i < kSamples; i += 3) every_third.push_back(i);
  table_.rows = every_third.data();
  table_.samples = static_cast<int64_t>(every_third.size());
  const auto prefetcher = Start(3, [](int64_t index) { return Piece{Piece::kAsStored, index * kRows, kRows}; });
  for (int64_t index = 0; index < 10; ++index) {
    const auto slot = prefetcher->Next({Piece::kAsStored, index * kRows, kRows});
    ASSERT_TRUE(slot.ok()) << slot.status();
    for (int64_t i = 0; i < kRows; ++i) EXPECT_EQ(slot->features[2 * i], static_cast<float>(3 * (index * kRows + i)));
  }
}

}  // namespace
}  // namespace lockstep
