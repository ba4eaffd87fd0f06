// SPDX-License-Identifier: Apache-2.0
#include "common/model/summary.h"

#include <algorithm>
#include <array>
#include <vector>

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

std::string ClassName(const std::string& kind) {
  std::string name = kind;
  if (!name.empty() && name[0] >= 'a' && name[0] <= 'z') name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name == "Relu" ? "ReLU" : name;
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
