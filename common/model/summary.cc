// SPDX-License-Identifier: Apache-2.0
#include "common/model/summary.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lockstep {

namespace {

using Row = std::array<std::string, 3>;

// 13002 as "13,002".
std::string WithThousands(int64_t number) {
  std::string text = absl::StrCat(number);
  for (int64_t at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<size_t>(at), 1, ',');
  return text;
}

// Keras's class names: "max_pooling2d" is MaxPooling2D.
std::string ClassName(const std::string& kind) {
  static const std::map<std::string, std::string> kIrregular{
      {"relu", "ReLU"}, {"leaky_relu", "LeakyReLU"}, {"elu", "ELU"}, {"selu", "SELU"}, {"gelu", "GELU"},
      {"silu", "SiLU"}, {"conv2d", "Conv2D"}};
  const auto found = kIrregular.find(kind);
  if (found != kIrregular.end()) return found->second;
  std::string name;
  bool up = true;
  for (const char c : kind) {
    if (c != '_') name += up ? absl::ascii_toupper(static_cast<unsigned char>(c)) : c;
    up = c == '_';
  }
  if (absl::EndsWith(name, "2d")) name.back() = 'D';
  return name;
}

std::string OutputShape(const Shape& shape) {
  std::string text = "(None";
  for (int64_t axis : shape.dims()) absl::StrAppend(&text, ", ", axis);
  return text + ")";
}

std::string Line(const Row& row, const std::array<size_t, 3>& widths) {
  std::string line;
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string gap(widths[i] - row[i].size(), ' ');
    // Numbers stand at the right.
    absl::StrAppend(&line, i == 0 ? " " : "  ", i == 2 ? gap : "", row[i], i == 2 ? "" : gap);
  }
  return line + "\n";
}

}  // namespace

std::string ModelSummary(const ModelPlan& plan) {
  std::vector<Row> rows = {{"Layer (type)", "Output Shape", "Param #"}};
  const std::string* field = nullptr;
  for (const LayerPlan& layer : plan.layers) {
    // The activation of a dense layer comes from the same place in the job file.
    if (field != nullptr && *field == layer.field) continue;
    field = &layer.field;
    int64_t parameters = 0;
    for (const ParameterPlan& p : layer.parameters) parameters += p.shape.elements();
    rows.push_back({absl::StrCat(layer.name, " (", ClassName(layer.kind), ")"), OutputShape(layer.output),
                    WithThousands(parameters)});
  }
  std::array<size_t, 3> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  const size_t width = widths[0] + widths[1] + widths[2] + 6;
  std::string text = absl::StrCat(std::string(width, '-'), "\n", Line(rows[0], widths), std::string(width, '='), "\n");
  for (size_t i = 1; i < rows.size(); ++i) text += Line(rows[i], widths);
  const int64_t total = plan.parameter_count();
  absl::StrAppend(&text, std::string(width, '='), "\n Total params: ", WithThousands(total),
                  "\n Trainable params: ", WithThousands(total), "\n Non-trainable params: 0\n",
                  std::string(width, '-'), "\n");
  return text;
}

}  // namespace lockstep
