// SPDX-License-Identifier: Apache-2.0
// How stored values became what the model was trained on. Kept with the model, so that new data can be
// brought into the same form without the old.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/formats/safetensors.h"
#include "common/shape.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// A column of a table. Statistics are over the training rows.
struct ColumnPreprocessing {
  std::string name;
  // Not empty: text, which becomes one feature for each of these, in this order: 1 where the cell is it,
  // else 0. Empty: a number, which becomes one.
  std::vector<std::string> categories;
  // One for each feature of the column.
  std::vector<double> mean, stddev;
  // x = (value - mean) / stddev, else x = value. Never for text.
  bool standardized = false;

  size_t width() const { return mean.size(); }
};

struct TablePreprocessing {
  // In the order of the model's inputs and outputs. The targets are none where `classes` are some.
  std::vector<ColumnPreprocessing> features, targets;
  // Names of the classes; the column that holds them.
  std::vector<std::string> classes;
  std::string class_column;
  // An empty cell becomes the mean of its column, instead of being refused.
  bool fill_missing = false;
};

struct Preprocessing {
  // Of one sample, as the model takes it.
  std::vector<int64_t> sample_shape;
  // x = value * scale + offset, then (x - mean) / stddev by channel where there are any.
  double scale = 1;
  double offset = 0;
  std::vector<double> mean, stddev;
  // Only for tables.
  std::optional<TablePreprocessing> table;
};

// Where it is among the metadata of a model's safetensors file.
inline constexpr const char* kPreprocessingKey = "preprocessing";

// As JSON. Same input, same bytes; numbers lose nothing.
std::string PreprocessingText(const Preprocessing& preprocessing);
// The other way. `name` is used in messages; DATA_LOSS says what is wrong.
absl::StatusOr<Preprocessing> ParsePreprocessing(const std::string& text, const std::string& name);
// Of a model that was trained here; NOT_FOUND where it says nothing of it.
absl::StatusOr<Preprocessing> PreprocessingOfModel(const SafetensorsFile& model, const std::string& name);

// What a data set's spec says of its values. For a table LoadCsvTable gives the rest.
Preprocessing PreprocessingOf(const lockstep::v1::DatasetSpec& spec, const Shape& sample);

}  // namespace lockstep
