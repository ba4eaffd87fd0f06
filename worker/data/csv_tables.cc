// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/csv_dataset.h"
#include "common/status_macros.h"
#include "worker/data/tables.h"

namespace lockstep {

namespace {

class CsvTables final : public Dataset {
 public:
  explicit CsvTables(CsvTable table) : data_(std::move(table)), sample_{data_.features} {
    train_ = View(data_.train);
    test_ = View(data_.test);
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return sample_; }
  const TablePreprocessing* table_preprocessing() const override { return &data_.preprocessing; }

 private:
  DataTable View(CsvPart& part) const {
    const bool classes = !data_.preprocessing.classes.empty();
    return {.features = {part.features.data(), Shape{part.rows, data_.features}, DType::kF32},
            .targets = classes ? Tensor{part.labels.data(), Shape{part.rows}, DType::kI32}
                               : Tensor{part.targets.data(), Shape{part.rows, data_.targets}, DType::kF32},
            .samples = part.rows};
  }

  CsvTable data_;
  Shape sample_;
  DataTable train_, test_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenCsvTables(const v1::CsvDataset& spec, const TableOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(CsvTable table, LoadCsvTable(spec, options.roots, options.seed));
  const auto classes = static_cast<int64_t>(table.preprocessing.classes.size());
  if (spec.classify_target() && classes > options.classes) {
    return absl::InvalidArgumentError(absl::StrCat(spec.path(), ": column \"", table.preprocessing.class_column,
                                                   "\" has ", classes, " classes, the model ", options.classes));
  }
  return std::make_unique<CsvTables>(std::move(table));
}

}  // namespace lockstep
