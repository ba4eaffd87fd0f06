// SPDX-License-Identifier: Apache-2.0
#include "common/model/preprocessing.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace lockstep {

namespace {

using Json = nlohmann::ordered_json;
// Looks keys up by a tree: a file of many keys costs no quadratic time.
using Parsed = nlohmann::json;

constexpr const char* kFormat = "lockstep-preprocessing";
constexpr int kVersion = 1;
constexpr double kPixelScale = 1.0 / 255.0;

Json ToJson(const ColumnPreprocessing& column) {
  Json json{{"name", column.name}};
  if (!column.categories.empty()) json["categories"] = column.categories;
  json["mean"] = column.mean;
  json["stddev"] = column.stddev;
  json["standardized"] = column.standardized;
  return json;
}

Json ToJson(const TablePreprocessing& table) {
  Json json{{"features", Json::array()}, {"targets", Json::array()}};
  for (const ColumnPreprocessing& column : table.features) json["features"].push_back(ToJson(column));
  for (const ColumnPreprocessing& column : table.targets) json["targets"].push_back(ToJson(column));
  if (!table.classes.empty()) {
    json["classes"] = table.classes;
    json["class_column"] = table.class_column;
  }
  json["fill_missing"] = table.fill_missing;
  return json;
}

// Takes values out of the file's objects, and remembers the first thing that is wrong.
class Taker {
 public:
  explicit Taker(std::string name) : name_(std::move(name)) {}

  const absl::Status& status() const { return status_; }

  void Fail(const std::string& what) {
    if (status_.ok())
      status_ = absl::DataLossError(absl::StrCat(name_, ": what it says of its inputs is not valid: ", what));
  }

  // The member, or null where it is missing, which is wrong, or has another type.
  const Parsed* Member(const Parsed& json, const char* key, bool (Parsed::*is)() const noexcept) {
    const auto found = json.find(key);
    if (found != json.end() && ((*found).*is)()) return &*found;
    Fail(absl::StrCat("\"", key, "\" is missing or of the wrong type"));
    return nullptr;
  }

  void Take(const Parsed& json, const char* key, std::string& to) {
    if (const Parsed* value = Member(json, key, &Parsed::is_string)) to = value->get<std::string>();
  }
  void Take(const Parsed& json, const char* key, bool& to) {
    if (const Parsed* value = Member(json, key, &Parsed::is_boolean)) to = value->get<bool>();
  }
  void Take(const Parsed& json, const char* key, double& to) {
    if (const Parsed* value = Member(json, key, &Parsed::is_number)) to = Finite(key, *value);
  }
  void Take(const Parsed& json, const char* key, std::vector<double>& to) {
    const Parsed* values = Member(json, key, &Parsed::is_array);
    for (size_t i = 0; values != nullptr && i < values->size(); ++i) to.push_back(Finite(key, (*values)[i]));
  }
  void Take(const Parsed& json, const char* key, std::vector<int64_t>& to) {
    const Parsed* values = Member(json, key, &Parsed::is_array);
    for (size_t i = 0; values != nullptr && i < values->size(); ++i) {
      if (!(*values)[i].is_number_unsigned()) return Fail(absl::StrCat("\"", key, "\" holds no natural number"));
      to.push_back((*values)[i].get<int64_t>());
    }
  }
  void Take(const Parsed& json, const char* key, std::vector<std::string>& to) {
    const Parsed* values = Member(json, key, &Parsed::is_array);
    for (size_t i = 0; values != nullptr && i < values->size(); ++i) {
      if (!(*values)[i].is_string()) return Fail(absl::StrCat("\"", key, "\" holds something that is no text"));
      to.push_back((*values)[i].get<std::string>());
    }
  }
  void Take(const Parsed& json, const char* key, std::vector<ColumnPreprocessing>& to) {
    const Parsed* values = Member(json, key, &Parsed::is_array);
    for (size_t i = 0; values != nullptr && i < values->size(); ++i) to.push_back(Column((*values)[i]));
  }

 private:
  double Finite(const char* key, const Parsed& value) {
    if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
    Fail(absl::StrCat("\"", key, "\" is no finite number"));
    return 0;
  }

  ColumnPreprocessing Column(const Parsed& json) {
    ColumnPreprocessing column;
    if (!json.is_object()) {
      Fail("a column is no object");
      return column;
    }
    Take(json, "name", column.name);
    if (json.contains("categories")) Take(json, "categories", column.categories);
    Take(json, "mean", column.mean);
    Take(json, "stddev", column.stddev);
    Take(json, "standardized", column.standardized);
    const size_t width = json.contains("categories") ? column.categories.size() : 1;
    if (width == 0 || column.mean.size() != width || column.stddev.size() != width) {
      Fail(absl::StrCat("column \"", column.name, "\" does not have one mean and stddev for each feature"));
    }
    for (double stddev : column.stddev) {
      if (!(stddev > 0)) Fail(absl::StrCat("column \"", column.name, "\" has a stddev that is not above 0"));
    }
    return column;
  }

  std::string name_;
  absl::Status status_;
};

}  // namespace

std::string PreprocessingText(const Preprocessing& preprocessing) {
  Json json{{"format", kFormat}, {"version", kVersion}, {"sample_shape", preprocessing.sample_shape}};
  json["scale"] = preprocessing.scale;
  json["offset"] = preprocessing.offset;
  json["mean"] = preprocessing.mean;
  json["stddev"] = preprocessing.stddev;
  if (preprocessing.table) json["table"] = ToJson(*preprocessing.table);
  // Text that is not UTF-8 would make it throw; tables hold none.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<Preprocessing> PreprocessingOfModel(const SafetensorsFile& model, const std::string& name) {
  const auto found = model.metadata.find(kPreprocessingKey);
  if (found != model.metadata.end()) return ParsePreprocessing(found->second, name);
  return absl::NotFoundError(absl::StrCat(name, ": does not say how its inputs were made; was it trained elsewhere?"));
}

absl::StatusOr<Preprocessing> ParsePreprocessing(const std::string& text, const std::string& name) {
  Taker taker(name);
  const Parsed json = Parsed::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    taker.Fail("it is no JSON object");
    return taker.status();
  }
  Preprocessing p;
  std::string format;
  double version = 0;
  taker.Take(json, "format", format);
  taker.Take(json, "version", version);
  if (format != kFormat || version != kVersion) taker.Fail(absl::StrCat("it is not of version ", kVersion));
  taker.Take(json, "sample_shape", p.sample_shape);
  taker.Take(json, "scale", p.scale);
  taker.Take(json, "offset", p.offset);
  taker.Take(json, "mean", p.mean);
  taker.Take(json, "stddev", p.stddev);
  if (p.mean.empty() != p.stddev.empty()) taker.Fail("there are means without stddevs, or the other way");
  if (json.contains("table")) {
    p.table.emplace();
    if (const Parsed* table = taker.Member(json, "table", &Parsed::is_object)) {
      taker.Take(*table, "features", p.table->features);
      taker.Take(*table, "targets", p.table->targets);
      taker.Take(*table, "fill_missing", p.table->fill_missing);
      if (table->contains("classes")) {
        taker.Take(*table, "classes", p.table->classes);
        taker.Take(*table, "class_column", p.table->class_column);
      }
    }
  }
  if (!taker.status().ok()) return taker.status();
  return p;
}

Preprocessing PreprocessingOf(const v1::DatasetSpec& spec, const Shape& sample) {
  Preprocessing p;
  p.sample_shape.assign(sample.dims().begin(), sample.dims().end());
  const auto take = [&](const auto& source, double otherwise) {
    p.scale = source.has_scale() ? source.scale() : otherwise;
    p.offset = source.offset();
  };
  if (spec.has_idx()) take(spec.idx(), kPixelScale);
  if (spec.has_cifar()) take(spec.cifar(), kPixelScale);
  if (spec.has_numpy()) take(spec.numpy(), 1);
  p.mean.assign(spec.normalize().mean().begin(), spec.normalize().mean().end());
  p.stddev.assign(spec.normalize().stddev().begin(), spec.normalize().stddev().end());
  return p;
}

}  // namespace lockstep
