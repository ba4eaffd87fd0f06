// SPDX-License-Identifier: Apache-2.0
#include "worker/data/feed.h"

#include <cstring>

#include "common/status_macros.h"

namespace lockstep {

namespace {

// A table that lies in memory.
class TableRows final : public RowSource {
 public:
  explicit TableRows(const DataTable& table)
      : table_(table), width_(Width(table.features)), target_width_(Width(table.targets)) {}

  absl::Status Read(std::span<const int64_t> rows, float* features, void* targets) override {
    for (size_t i = 0; i < rows.size(); ++i) {
      float* to = features + i * static_cast<size_t>(width_);
      if (table_.features.type == DType::kU8) {
        Convert(table_.features.as<uint8_t>() + rows[i] * width_, to);
      } else {
        Convert(table_.features.as<float>() + rows[i] * width_, to);
      }
      // Targets of both types are four bytes wide.
      std::memcpy(static_cast<int32_t*>(targets) + i * static_cast<size_t>(target_width_),
                  table_.targets.as<int32_t>() + rows[i] * target_width_,
                  static_cast<size_t>(target_width_) * sizeof(int32_t));
    }
    return absl::OkStatus();
  }
  // The table is not this object's.
  int64_t bytes() const override { return 0; }

 private:
  static int64_t Width(const Tensor& table) { return table.elements() == 0 ? 0 : table.elements() / table.shape[0]; }

  // The same arithmetic as Device::GatherRows.
  template <typename T>
  void Convert(const T* from, float* __restrict to) const {
    for (int64_t j = 0; j < width_; ++j) to[j] = static_cast<float>(from[j]) * table_.scale + table_.offset;
  }

  const DataTable& table_;
  int64_t width_;
  int64_t target_width_;
};

}  // namespace

void RowOrder::Fill(const Piece& piece, int64_t* out) {
  const bool shuffled = piece.epoch != Piece::kAsStored;
  if (shuffled && piece.epoch != epoch_) {
    order_.emplace(static_cast<uint64_t>(table_->samples), seed_, static_cast<uint64_t>(piece.epoch));
    epoch_ = piece.epoch;
  }
  for (int64_t i = 0; i < piece.rows; ++i) {
    const int64_t position = piece.first + i;
    const int64_t sample = shuffled ? static_cast<int64_t>((*order_)(static_cast<uint64_t>(position))) : position;
    out[i] = table_->rows == nullptr ? sample : table_->rows[sample];
  }
}

Feed::Feed(const DataTable& table, const v1::DatasetSpec& spec, const Shape& sample, uint64_t seed, bool augments,
           int64_t max_rows)
    : order_(table, seed),
      augmenter_(spec, sample, seed, augments),
      own_(table.source == nullptr ? std::make_unique<TableRows>(table) : nullptr),
      source_(table.source == nullptr ? own_.get() : table.source),
      width_(sample.elements()),
      rows_(static_cast<size_t>(max_rows)),
      scratch_(static_cast<size_t>(sample.elements())) {}

absl::Status Feed::Make(const Piece& piece, float* features, void* targets) {
  order_.Fill(piece, rows_.data());
  const std::span<const int64_t> rows(rows_.data(), static_cast<size_t>(piece.rows));
  LOCKSTEP_RETURN_IF_ERROR(source_->Read(rows, features, targets));
  if (augmenter_.idle()) return absl::OkStatus();
  for (size_t i = 0; i < rows.size(); ++i) {
    augmenter_.Apply(piece.epoch, rows[i], features + i * static_cast<size_t>(width_), scratch_.data());
  }
  return absl::OkStatus();
}

}  // namespace lockstep
