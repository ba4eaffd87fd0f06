// SPDX-License-Identifier: Apache-2.0
// Runs a scripted scenario: each command is one event for the core, and what the core has done is
// written below it. The words are in script.cc.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/core/apply.h"
#include "tests/scenario/sim_store.h"

namespace lockstep::sim {

// "name word key=value flag": `words` in order, the rest by key; a flag has the value "1".
struct Command {
  std::string name;
  std::vector<std::string> words;
  std::map<std::string, std::string> options;

  static Command Parse(const std::string& line);
  std::string Word(size_t index) const { return index < words.size() ? words[index] : ""; }
  int64_t Number(size_t index) const;
  int64_t Option(const std::string& key, int64_t otherwise) const;
  std::string Text(const std::string& key) const;
  bool Has(const std::string& key) const { return options.contains(key); }
};

class Script {
 public:
  // The script with what really came of it. Lines of an earlier transcript (indented) are left out.
  std::string Run(const std::string& text);

 private:
  std::string RunCommand(const Command& command);
  std::string Restart(int slots);
  std::string Apply(core::Event event);
  core::Event ToEvent(const Command& command) const;
  core::Event FromRank(const Command& command) const;
  core::FromWorker From(const Command& command, bool report) const;
  // Stores and describes.
  std::string Take(const core::Outcome& outcome, const core::Event* event);

  World world_{0};
  SimStore store_{&world_};
  std::unique_ptr<core::State> state_ = std::make_unique<core::State>(4);
  core::Limits limits_;
  int64_t order_ = 0;
};

// One line; empty for what is not worth one.
std::string Describe(const core::Effect& effect);

}  // namespace lockstep::sim
