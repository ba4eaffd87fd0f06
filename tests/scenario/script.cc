// SPDX-License-Identifier: Apache-2.0
#include "tests/scenario/script.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lockstep::sim {
namespace {

std::vector<std::pair<int64_t, std::string>> ToDigests(const std::string& text) {
  std::vector<std::pair<int64_t, std::string>> digests;
  if (text.empty()) return digests;
  const std::vector<std::string> entries = absl::StrSplit(text, ',');
  for (const std::string& entry : entries) {
    const size_t colon = entry.find(':');
    digests.emplace_back(std::atoll(entry.c_str()), entry.substr(colon + 1));
  }
  return digests;
}

core::Phase ToPhase(const std::string& word) {
  if (word == "startup") return core::Phase::kStartup;
  if (word == "checkpoint") return core::Phase::kCheckpoint;
  return word == "lease" ? core::Phase::kLease : core::Phase::kStep;
}

core::Farewell ToFarewell(const std::string& word) {
  if (word == "succeeded") return core::Farewell::kSucceeded;
  return word == "stopped" ? core::Farewell::kStopped : core::Farewell::kFailed;
}

core::TimerKind ToTimer(const std::string& word) {
  if (word == "startup") return core::TimerKind::kStartup;
  return word == "settle" ? core::TimerKind::kSettle : core::TimerKind::kKill;
}

}  // namespace

Command Command::Parse(const std::string& line) {
  Command command;
  std::istringstream stream(line);
  stream >> command.name;
  for (std::string word; stream >> word;) {
    const size_t equals = word.find('=');
    if (equals != std::string::npos) {
      command.options[word.substr(0, equals)] = word.substr(equals + 1);
    } else {
      command.words.push_back(word);
      command.options[word] = "1";
    }
  }
  return command;
}

int64_t Command::Number(size_t index) const { return std::atoll(Word(index).c_str()); }

int64_t Command::Option(const std::string& key, int64_t otherwise) const {
  const auto it = options.find(key);
  return it == options.end() ? otherwise : std::atoll(it->second.c_str());
}

std::string Command::Text(const std::string& key) const {
  const auto it = options.find(key);
  return it == options.end() ? "" : it->second;
}

std::string Script::Run(const std::string& text) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("  ")) continue;
    absl::StrAppend(&result, line, "\n");
    if (line.empty() || line[0] == '#') continue;
    absl::StrAppend(&result, RunCommand(Command::Parse(line)));
    if (world_.failed()) absl::StrAppend(&result, "  BROKEN: ", world_.failure(), "\n");
  }
  return result;
}

std::string Script::RunCommand(const Command& command) {
  if (command.name == "slots" || command.name == "restart-coordinator") {
    return Restart(static_cast<int>(command.Option("slots", command.name == "slots" ? command.Number(0) : 4)));
  }
  if (command.name != "tick") return Apply(ToEvent(command));
  // tick JOB TIMES
  std::string text;
  const core::Job* job = state_->Find(command.Word(0));
  const int64_t generation = job == nullptr ? 0 : job->generation;
  for (int64_t i = 0; i < command.Number(1); ++i) {
    const std::string more = Apply(core::TimerFired{command.Word(0), generation, core::TimerKind::kWatch});
    if (!more.empty()) absl::StrAppend(&text, "  at tick ", i + 1, ":\n", more);
  }
  return text;
}

std::string Script::Restart(int slots) {
  state_ = std::make_unique<core::State>(slots);
  std::map<int64_t, const JobRow*> live;
  for (const auto& [id, row] : store_.rows()) {
    if (!core::IsEnded(row.state)) live[row.order] = &row;
  }
  std::string text;
  for (const auto& [order, row] : live) absl::StrAppend(&text, Apply(core::JobRecovered{store_.Load(*row)}));
  absl::StrAppend(&text, Take(core::StartQueued(*state_, limits_), nullptr));
  return text;
}

std::string Script::Apply(core::Event event) { return Take(core::Apply(*state_, event, limits_), &event); }

std::string Script::Take(const core::Outcome& outcome, const core::Event* event) {
  if (!outcome.status.ok()) return absl::StrCat("  refused: ", std::string(outcome.status.message()), "\n");
  std::string text;
  std::vector<Change> changes;
  std::map<core::JobId, Update> updates;
  const auto* submitted = event == nullptr ? nullptr : std::get_if<core::JobSubmitted>(event);
  for (const core::Effect& effect : outcome.effects) {
    if (const std::string line = Describe(effect); !line.empty()) absl::StrAppend(&text, "  ", line, "\n");
    if (!SimStore::IsStored(effect)) continue;
    Change change{effect, 0, std::nullopt};
    if (submitted != nullptr && changes.empty()) change.insert = *submitted;
    changes.push_back(std::move(change));
  }
  for (const auto& [order, job] : state_->jobs()) {
    updates[job.id] = {job.id,         job.shape.workers, job.group_size(), job.epochs,
                       job.high_water, job.restarts,      job.stopped_at,   job.cancel_reason};
  }
  std::vector<Update> all;
  for (auto& [id, update] : updates) all.push_back(std::move(update));
  store_.Write(changes, all);
  return text;
}

core::FromWorker Script::From(const Command& command, bool report) const {
  const core::Job* job = state_->Find(command.Word(0));
  core::FromWorker from{command.Word(0), 0, static_cast<int>(command.Number(1))};
  if (job != nullptr && from.rank < job->group_size()) {
    from.session = std::max<int64_t>(1, job->ranks[from.rank].session);
    from.report = report ? job->ranks[from.rank].last_report + 1 : 0;
  }
  from.generation = command.Option("gen", job == nullptr ? 1 : job->generation);
  from.session = command.Option("session", from.session);
  from.report = command.Option("report", from.report);
  return from;
}

// COMMAND JOB RANK ...
core::Event Script::FromRank(const Command& command) const {
  const core::FromWorker from = From(command, false), reporting = From(command, true);
  if (command.name == "hello") {
    const core::Job* job = state_->Find(from.job);
    core::HelloSaid hello{from};
    hello.world_size = static_cast<int>(command.Option("world", job == nullptr ? 1 : job->group_size()));
    hello.host = "host";
    hello.pid = 100 + from.rank;
    hello.leased_end = command.Option("leased", 0);
    return hello;
  }
  if (command.name == "lease") return core::LeaseAsked{from, command.Number(2)};
  if (command.name == "group-id") return core::GroupIdGiven{from, command.Word(2)};
  if (command.name == "ask-group-id") return core::GroupIdAsked{from};
  if (command.name == "beat") {
    return core::HeartbeatSaid{from, command.Number(2), ToPhase(command.Word(3)), 0.001 * command.Option("ms", 10)};
  }
  if (command.name == "commit") {
    return core::StepsReported{reporting, command.Number(2), command.Number(3), command.Has("snapshot"),
                               ToDigests(command.Text("digests"))};
  }
  if (command.name == "digest") return core::DigestReported{reporting, ToDigests(command.Word(2))};
  if (command.name == "epoch") {
    return core::EpochReported{reporting, command.Number(2), command.Option("step", 0), command.Has("stopped")};
  }
  if (command.name == "checkpoint") {
    return core::CheckpointReported{reporting, command.Number(2), command.Word(3), command.Has("final")};
  }
  if (command.name == "goodbye") {
    return core::GoodbyeSaid{reporting,
                             ToFarewell(command.Word(2)),
                             command.Text("message"),
                             command.Option("step", 0),
                             command.Has("permanent"),
                             command.Has("unusable")};
  }
  // kill: the process is gone; break: only its stream.
  return core::SessionEnded{from, command.name == "kill", ""};
}

core::Event Script::ToEvent(const Command& command) const {
  const core::JobId job = command.Word(0);
  const core::Job* live = state_->Find(job);
  const int64_t generation = command.Option("gen", live == nullptr ? 0 : live->generation);
  if (command.name == "submit") {
    core::JobShape shape{.workers = static_cast<int>(command.Option("workers", 1)),
                         .logical_shards = static_cast<int>(command.Option("shards", 4)),
                         .total_steps = command.Option("steps", 100)};
    shape.steps_per_epoch = command.Option("epoch", shape.total_steps);
    int64_t order = 1;
    for (const auto& [id, row] : store_.rows()) order = std::max(order, row.order + 1);
    return core::JobSubmitted{job, order, shape, ""};
  }
  if (command.name == "cancel") return core::CancelAsked{job, ""};
  if (command.name == "scale") return core::ScaleAsked{job, static_cast<int>(command.Number(1))};
  if (command.name == "drain") return core::DrainAsked{};
  if (command.name == "timer") return core::TimerFired{job, generation, ToTimer(command.Word(1))};
  if (command.name == "launch-failed") return core::LaunchFailed{job, generation, "no mpirun"};
  if (command.name == "exit") {
    return core::GroupExited{job,
                             generation,
                             {.exit_code = static_cast<int>(command.Option("code", 0)),
                              .signal = static_cast<int>(command.Option("signal", 0)),
                              .killed = command.Has("killed"),
                              .reported = !command.Has("unreported")}};
  }
  if (command.name == "resume") {
    core::ResumeAsked asked;
    if (const JobRow* row = store_.Find(job)) asked.job = store_.Load(*row);
    if (command.Has("from")) asked.from_step = command.Option("from", 0);
    return asked;
  }
  return FromRank(command);
}

}  // namespace lockstep::sim
