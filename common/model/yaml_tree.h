// SPDX-License-Identifier: Apache-2.0
// A YAML document as a bounded tree with positions. Anchors and aliases are refused.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/model/violations.h"

namespace lockstep {

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  // Counted from 1.
  int line = 1;
  int column = 1;
  // Of a scalar. Quoted text is never a number or a truth value.
  std::string text;
  bool quoted = false;
  std::vector<YamlNode> items;
  std::vector<Entry> entries;

  // "a list", "a map", ...: for messages.
  const char* KindName() const;
};

struct YamlNode::Entry {
  YamlNode key;
  YamlNode value;
};

// Limits that keep a hostile file from costing time or memory.
inline constexpr size_t kMaxYamlBytes = 1 << 20;
inline constexpr int kMaxYamlDepth = 32;
inline constexpr int kMaxYamlNodes = 100'000;

// One document. What is wrong is added as one violation without a field and with "name:line:column";
// the answer is then false.
bool ParseYaml(const std::string& text, const std::string& name, YamlNode& root, Violations& violations);

}  // namespace lockstep
