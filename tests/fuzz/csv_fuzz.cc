// SPDX-License-Identifier: Apache-2.0
// Tables: the first byte chooses how they are read, the rest is the file.
#include "common/model/csv_dataset.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const int choice = data[0];
  const int fd = lockstep::InputFile::Of(data + 1, size - 1);
  lockstep::v1::CsvDataset spec;
  spec.add_target_columns("y");
  spec.set_missing_values(static_cast<lockstep::v1::MissingValuePolicy>(choice & 3));
  spec.set_standardize_features((choice & 4) != 0);
  spec.set_classify_target((choice & 8) != 0);
  if ((choice & 16) != 0) spec.add_categorical_columns("t");
  spec.set_test_fraction(0.3);
  const auto table = lockstep::LoadCsvTable(fd, "f", spec, /*seed=*/1);
  if (!table.ok()) return 0;
  if (table->train.features.size() != static_cast<size_t>(table->train.rows * table->features)) std::abort();
  // What was kept is read again, and fits the same rows.
  const lockstep::Preprocessing kept{.sample_shape = {table->features}, .table = table->preprocessing};
  const auto again = lockstep::ParsePreprocessing(lockstep::PreprocessingText(kept), "m");
  if (!again.ok()) std::abort();
  const auto part = lockstep::ApplyPreprocessing(fd, "f", *again->table, /*with_targets=*/true);
  // Rows with gaps are left out while training, and refused afterwards.
  if (part.ok() ? part->rows < table->train.rows : (choice & 3) != lockstep::v1::MISSING_VALUE_POLICY_DROP_ROWS) {
    std::abort();
  }
  return 0;
}
