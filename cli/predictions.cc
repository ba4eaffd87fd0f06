// SPDX-License-Identifier: Apache-2.0
#include "cli/predictions.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {

namespace {

using Json = nlohmann::ordered_json;

// As many digits as a float needs to be read back.
std::string Digits(double value) { return absl::StrFormat("%.9g", value); }

std::string Quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  return absl::StrCat("\"", absl::StrReplaceAll(cell, {{"\"", "\"\""}}), "\"");
}

bool HasLogits(const v1::LossSpec& loss) {
  return loss.sparse_categorical_crossentropy().from_logits() || loss.categorical_crossentropy().from_logits() ||
         loss.binary_crossentropy().from_logits();
}

// Text of any bytes; JSON's is UTF-8.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

PredictionText::PredictionText(const TrainedModel& model, const PredictionFormat& format)
    : format_(format), task_(TaskOf(model.job.loss())), logits_(HasLogits(model.job.loss())) {
  const auto outputs = static_cast<size_t>(model.plan.output.elements());
  score_ = model.job.loss().has_hinge();
  binary_choice_ = task_ == Task::kBinary && outputs == 1;
  format_.top = static_cast<int>(std::clamp<size_t>(static_cast<size_t>(std::max(1, format.top)), 1, outputs));
  for (size_t i = 0; i < outputs; ++i) names_.push_back(absl::StrCat("output_", i));
  mean_.assign(outputs, 0.0);
  stddev_.assign(outputs, 1.0);
  if (!model.preprocessing.table.has_value()) return;
  const TablePreprocessing& table = *model.preprocessing.table;
  classes_ = table.classes;
  if (table.targets.size() != outputs || task_ == Task::kClasses) return;
  for (size_t i = 0; i < outputs; ++i) {
    names_[i] = table.targets[i].name;
    if (!table.targets[i].standardized || table.targets[i].width() != 1) continue;
    mean_[i] = table.targets[i].mean[0];
    stddev_[i] = table.targets[i].stddev[0];
  }
}

std::string PredictionText::ClassName(size_t index) const {
  return index < classes_.size() ? classes_[index] : absl::StrCat(index);
}

std::vector<PredictionText::Choice> PredictionText::Choices(std::span<const float> output) const {
  if (binary_choice_) {
    const double y = output[0];
    const double p = logits_ ? 1.0 / (1.0 + std::exp(-y)) : y;
    const size_t index = p > (score_ ? 0.0 : 0.5) ? 1 : 0;
    return {{index, score_ ? y : (index == 1 ? p : 1.0 - p)}};
  }
  std::vector<size_t> order(output.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // The lowest index on a tie, as the metrics do.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return output[a] > output[b]; });
  double sum = 1;
  const double largest = output[order[0]];
  if (logits_) {
    sum = 0;
    for (const float y : output) sum += std::exp(y - largest);
  }
  std::vector<Choice> choices;
  for (size_t i = 0; i < static_cast<size_t>(format_.top); ++i) {
    const double y = output[order[i]];
    choices.push_back({order[i], logits_ ? std::exp(y - largest) / sum : y});
  }
  return choices;
}

std::string PredictionText::Header() const {
  if (format_.json) return "";
  if (!chooses()) {
    std::vector<std::string> cells;
    for (const std::string& name : names_) cells.push_back(Quoted(name));
    return absl::StrJoin(cells, ",") + "\n";
  }
  const char* value = score_ ? "score" : "probability";
  if (format_.top == 1) return absl::StrCat("class,", value, "\n");
  std::vector<std::string> cells;
  for (int i = 1; i <= format_.top; ++i) cells.push_back(absl::StrCat("class_", i, ",", value, "_", i));
  return absl::StrJoin(cells, ",") + "\n";
}

std::string PredictionText::Row(std::span<const float> output) const {
  if (!chooses()) return Numbers(output);
  const std::vector<Choice> choices = Choices(output);
  if (format_.json) {
    Json all = Json::array();
    for (const Choice& choice : choices) {
      all.push_back({{"class", ClassName(choice.index)},
                     {"index", choice.index},
                     {score_ ? "score" : "probability", choice.probability}});
    }
    return Dump({{"classes", std::move(all)}});
  }
  std::vector<std::string> cells;
  for (const Choice& choice : choices) {
    cells.push_back(absl::StrCat(Quoted(ClassName(choice.index)), ",", Digits(choice.probability)));
  }
  return absl::StrJoin(cells, ",") + "\n";
}

std::string PredictionText::Numbers(std::span<const float> output) const {
  const bool probabilities = !format_.raw && task_ == Task::kBinary && logits_;
  std::vector<double> values;
  for (size_t i = 0; i < output.size(); ++i) {
    double value = output[i];
    if (probabilities) value = 1.0 / (1.0 + std::exp(-value));
    if (!format_.raw) value = value * stddev_[i] + mean_[i];
    values.push_back(value);
  }
  if (format_.json) return Dump({{"outputs", values}});
  return absl::StrJoin(values, ",", [](std::string* to, double v) { absl::StrAppend(to, Digits(v)); }) + "\n";
}

std::string NpyHead(const std::vector<int64_t>& shape) {
  std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (const int64_t length : shape) absl::StrAppend(&dictionary, length, ", ");
  dictionary += "), }";
  // Ten bytes stand before it, and all together are a multiple of 64.
  while ((10 + dictionary.size() + 1) % 64 != 0) dictionary += ' ';
  dictionary += '\n';
  std::string head("\x93NUMPY\x01\x00", 8);
  head += static_cast<char>(dictionary.size() & 0xff);
  head += static_cast<char>(dictionary.size() >> 8);
  return head + dictionary;
}

}  // namespace lockstep::cli
