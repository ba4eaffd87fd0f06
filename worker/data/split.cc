// SPDX-License-Identifier: Apache-2.0
#include "common/model/split.h"

#include <utility>

#include "worker/data/tables.h"

namespace lockstep {

namespace {

// Two views of one table.
class SplitTables final : public Dataset {
 public:
  SplitTables(std::unique_ptr<Dataset> whole, double fraction, uint64_t seed) : whole_(std::move(whole)) {
    const DataTable& all = whole_->train();
    const std::vector<bool> held_out = HeldOut(all.samples, fraction, seed);
    // No more than is needed: a limit on memory counts them.
    const int64_t count = HeldOutCount(all.samples, fraction);
    test_rows_.reserve(static_cast<size_t>(count));
    train_rows_.reserve(static_cast<size_t>(all.samples - count));
    for (int64_t i = 0; i < all.samples; ++i) {
      (held_out[i] ? test_rows_ : train_rows_).push_back(all.rows == nullptr ? i : all.rows[i]);
    }
    train_ = View(all, train_rows_);
    test_ = View(all, test_rows_);
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return whole_->sample_shape(); }
  const TablePreprocessing* table_preprocessing() const override { return whole_->table_preprocessing(); }

 private:
  static DataTable View(DataTable table, const std::vector<int64_t>& rows) {
    table.rows = rows.data();
    table.samples = static_cast<int64_t>(rows.size());
    return table;
  }

  std::unique_ptr<Dataset> whole_;
  std::vector<int64_t> train_rows_, test_rows_;
  DataTable train_, test_;
};

}  // namespace

std::unique_ptr<Dataset> SplitTraining(std::unique_ptr<Dataset> dataset, double fraction, uint64_t seed) {
  return std::make_unique<SplitTables>(std::move(dataset), fraction, seed);
}

}  // namespace lockstep
