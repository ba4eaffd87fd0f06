// SPDX-License-Identifier: Apache-2.0
#include "common/model/registry.h"

#include "common/model/layers/layers.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace lockstep {

namespace {

struct Entry {
  absl::string_view name;
  DescribeFunction describe;
};

constexpr Entry kEntries[] = {
#define LOCKSTEP_LAYER(name, Name) {#name, &Describe##Name},
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
};

}  // namespace

DescribeFunction FindDescribe(absl::string_view kind) {
  for (const Entry& entry : kEntries) {
    if (entry.name == kind) return entry.describe;
  }
  return nullptr;
}

const std::vector<std::string>& LayerKinds() {
  static const auto* const kNames = [] {
    auto* names = new std::vector<std::string>;
    for (const Entry& entry : kEntries) names->emplace_back(entry.name);
    return names;
  }();
  return *kNames;
}

std::string LayerKind(const v1::LayerSpec& spec) {
  const auto* oneof = v1::LayerSpec::descriptor()->FindOneofByName("kind");
  const auto* field = spec.GetReflection()->GetOneofFieldDescriptor(spec, oneof);
  return field == nullptr ? "" : field->name();
}

bool SetLayerKind(v1::LayerSpec& spec, absl::string_view kind) {
  const auto* field = v1::LayerSpec::descriptor()->FindFieldByName(std::string(kind));
  if (field == nullptr || field->containing_oneof() == nullptr) return false;
  spec.GetReflection()->MutableMessage(&spec, field);
  return true;
}

}  // namespace lockstep
