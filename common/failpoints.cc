// SPDX-License-Identifier: Apache-2.0
#include "common/failpoints.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<Failpoints>> Failpoints::Load(const std::string& path, int rank) {
  static const std::set<std::string> kActions{"kill", "stop", "exit", "error", "delay", "wait"};
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot open the failpoints"));
  std::unique_ptr<Failpoints> failpoints(new Failpoints(path, rank));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::vector<std::string> words =
        absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.empty()) continue;
    const auto wrong = [&](const std::string& what) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", what));
    };
    if (words.size() < 2) return wrong("a failpoint has a name and an action");
    Point point{.name = words[0], .line = number};
    const std::pair<std::string, std::string> action = absl::StrSplit(words[1], absl::MaxSplits('=', 1));
    point.action = action.first;
    point.value = action.second;
    if (!kActions.contains(point.action)) return wrong(absl::StrCat("unknown action ", point.action));
    for (size_t i = 2; i < words.size(); ++i) {
      const std::pair<std::string, std::string> option = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
      const bool understood = (option.first == "rank" && absl::SimpleAtoi(option.second, &point.rank)) ||
                              (option.first == "hit" && absl::SimpleAtoi(option.second, &point.hit));
      if (!understood) return wrong(absl::StrCat("unknown option ", words[i]));
    }
    failpoints->points_.push_back(std::move(point));
  }
  return failpoints;
}

absl::Status Failpoints::Hit(std::string_view name) {
  const Point* acting = nullptr;
  {
    const std::lock_guard lock(mutex_);
    for (Point& point : points_) {
      if (point.name != name || (point.rank >= 0 && point.rank != rank_)) continue;
      if (++point.seen == point.hit && Claim(point)) acting = &point;
    }
  }
  return acting == nullptr ? absl::OkStatus() : Act(*acting);
}

bool Failpoints::Claim(const Point& point) const {
  const std::string folder = path_ + ".fired";
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  const std::string mark = absl::StrCat(folder, "/", point.line);
  const int fd = open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  close(fd);
  return true;
}

absl::Status Failpoints::Act(const Point& point) const {
  if (point.action == "kill") raise(SIGKILL);
  if (point.action == "stop") raise(SIGSTOP);
  if (point.action == "exit") _exit(1);
  if (point.action == "error") return absl::UnavailableError(absl::StrCat("failpoint ", point.name));
  if (point.action == "delay") {
    int64_t milliseconds = 0;
    if (absl::SimpleAtoi(point.value, &milliseconds)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    }
  }
  std::error_code ignored;
  while (point.action == "wait" && !std::filesystem::exists(point.value, ignored)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
