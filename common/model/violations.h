// SPDX-License-Identifier: Apache-2.0
// All that is wrong with a specification, collected before anything is refused.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// One thing that is wrong.
struct Violation {
  // Path in the spec in the words of the job file: "model.layers[2].dense.units".
  std::string field;
  // What is wrong and what to do.
  std::string description;
};

// A list with a bound: after kMax violations further ones are counted but not kept.
class Violations {
 public:
  static constexpr size_t kMax = 100;

  void Add(std::string field, std::string description) {
    ++count_;
    if (list_.size() < kMax) list_.push_back({std::move(field), std::move(description)});
  }
  bool empty() const { return count_ == 0; }
  // All that were added, kept or not.
  size_t count() const { return count_; }
  const std::vector<Violation>& list() const { return list_; }

 private:
  std::vector<Violation> list_;
  size_t count_ = 0;
};

}  // namespace lockstep
