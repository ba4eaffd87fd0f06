// SPDX-License-Identifier: Apache-2.0
#include "common/failpoints.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lockstep {

std::string Failpoints::Parse(const std::vector<std::string>& words, Point* point) {
  static constexpr std::pair<std::string_view, Action> kActions[] = {
      {"kill", Action::kKill},   {"stop", Action::kStop},   {"exit", Action::kExit},
      {"error", Action::kError}, {"delay", Action::kDelay}, {"wait", Action::kWait}};
  if (words.size() < 2) return "a failpoint has a name and an action";
  point->name = words[0];
  const std::pair<std::string, std::string> action = absl::StrSplit(words[1], absl::MaxSplits('=', 1));
  const auto* known = std::find_if(std::begin(kActions), std::end(kActions),
                                   [&](const auto& entry) { return entry.first == action.first; });
  if (known == std::end(kActions)) return absl::StrCat("unknown action ", words[1]);
  point->action = known->second;
  bool understood = words[1] == action.first;
  if (point->action == Action::kDelay) {
    understood = absl::SimpleAtoi(action.second, &point->milliseconds) && point->milliseconds > 0;
  } else if (point->action == Action::kWait) {
    point->path = action.second;
    understood = !point->path.empty();
  }
  if (!understood) return absl::StrCat("not understood: ", words[1]);
  for (size_t i = 2; i < words.size(); ++i) {
    const std::pair<std::string, std::string> option = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    const bool good = (option.first == "rank" && absl::SimpleAtoi(option.second, &point->rank) && point->rank >= 0) ||
                      (option.first == "hit" && absl::SimpleAtoi(option.second, &point->hit) && point->hit >= 1) ||
                      words[i] == "always";
    point->always |= words[i] == "always";
    if (!good) return absl::StrCat("not understood: ", words[i]);
  }
  return "";
}

absl::StatusOr<std::unique_ptr<Failpoints>> Failpoints::Load(const std::string& path, int rank) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot open the failpoints"));
  std::unique_ptr<Failpoints> failpoints(new Failpoints(path, rank));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::vector<std::string> words =
        absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    Point point{.line = number};
    if (const std::string wrong = Parse(words, &point); !wrong.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", wrong));
    }
    failpoints->points_.push_back(std::move(point));
  }
  const std::string fired = path + ".fired";
  std::error_code error;
  std::filesystem::create_directories(fired, error);
  if (error || access(fired.c_str(), W_OK) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(fired, ": cannot be written"));
  }
  return failpoints;
}

absl::Status Failpoints::Hit(std::string_view name) {
  std::vector<const Point*> acting;
  {
    const std::lock_guard lock(mutex_);
    // A process that is about to end leaves the other lines to the next one.
    bool ends = false;
    for (Point& point : points_) {
      if (point.name != name || (point.rank >= 0 && point.rank != rank_)) continue;
      ++point.seen;
      if (ends || !Due(point)) continue;
      acting.push_back(&point);
      ends = point.action == Action::kKill || point.action == Action::kExit;
    }
  }
  absl::Status status;
  for (const Point* point : acting) status.Update(Act(*point));
  return status;
}

bool Failpoints::Due(const Point& point) const {
  if (point.always) return point.seen >= point.hit;
  return point.seen == point.hit && Claim(point);
}

bool Failpoints::Claim(const Point& point) const {
  const std::string mark = absl::StrCat(path_, ".fired/", point.line);
  const int fd = open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  close(fd);
  return true;
}

absl::Status Failpoints::Act(const Point& point) const {
  std::error_code ignored;
  switch (point.action) {
    case Action::kKill:
      kill(getpid(), SIGKILL);
      break;
    case Action::kStop:
      kill(getpid(), SIGSTOP);
      break;
    case Action::kExit:
      _exit(1);
    case Action::kError:
      return absl::UnavailableError(absl::StrCat("failpoint ", point.name));
    case Action::kDelay:
      std::this_thread::sleep_for(std::chrono::milliseconds(point.milliseconds));
      break;
    case Action::kWait:
      while (!std::filesystem::exists(point.path, ignored)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      break;
  }
  return absl::OkStatus();
}

}  // namespace lockstep
