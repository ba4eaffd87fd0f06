// SPDX-License-Identifier: Apache-2.0
// Feed: makes batches of a data table in host memory: reads the rows, changes and normalises them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "common/permutation.h"
#include "worker/data/augment.h"
#include "worker/data/dataset.h"
#include "worker/data/row_source.h"

namespace lockstep {

// Which samples a batch is made of: those at positions [first, first + rows) of an epoch's order, or of the
// order in which they are stored.
struct Piece {
  static constexpr int64_t kAsStored = -1;
  int64_t epoch = kAsStored;
  int64_t first = 0;
  int64_t rows = 0;
  friend bool operator==(const Piece&, const Piece&) = default;
};

// The rows that a piece is made of; keeps the newest epoch's permutation.
class RowOrder {
 public:
  // `table` outlives it.
  RowOrder(const DataTable& table, uint64_t seed) : table_(&table), seed_(seed) {}
  // The table's rows to out[0 .. piece.rows).
  void Fill(const Piece& piece, int64_t* out);

 private:
  const DataTable* table_;
  uint64_t seed_;
  std::optional<Permutation> order_;
  int64_t epoch_ = Piece::kAsStored;
};

// One thread at a time.
class Feed {
 public:
  // `table` outlives the feed. `sample`: the shape of one. `augments`: see Augmenter.
  Feed(const DataTable& table, const lockstep::v1::DatasetSpec& spec, const Shape& sample, uint64_t seed, bool augments,
       int64_t max_rows);

  // features: [rows, sample...] float; targets as in the table. Errors: see RowSource.
  absl::Status Make(const Piece& piece, float* features, void* targets);

 private:
  RowOrder order_;
  Augmenter augmenter_;
  // Of a table in memory.
  std::unique_ptr<RowSource> own_;
  RowSource* source_;
  int64_t width_;
  std::vector<int64_t> rows_;
  std::vector<float> scratch_;
};

}  // namespace lockstep
