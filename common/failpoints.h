// SPDX-License-Identifier: Apache-2.0
// Named places where a test may make the program fail. Armed only by a file that a flag names; without
// one a place costs a look at a null pointer.
//
// The file has one line a failpoint, "#" begins a comment:
//   NAME ACTION [rank=R] [hit=N] [always]
// ACTION: kill (SIGKILL to the own process), stop (SIGSTOP), exit (with code 1), error (where the place
// can return one), delay=MILLISECONDS, wait=PATH (until the file exists). It acts at the N-th time
// (default 1) that one process of rank R (default: any) comes by, once for all processes that share the
// file: what has acted is noted in the folder FILE.fired, by its line. Remove that to arm the file again.
// With "always" it acts in every process, each time from the N-th on, and nothing is noted.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

// Thread-safe.
class Failpoints {
 public:
  // INVALID_ARGUMENT, naming file and line, where one is not understood. FAILED_PRECONDITION where FILE.fired cannot be
  // written: no failpoint could ever act.
  static absl::StatusOr<std::unique_ptr<Failpoints>> Load(const std::string& path, int rank);

  // The program comes by the place. UNAVAILABLE for "error", else OK.
  absl::Status Hit(std::string_view name);

 private:
  enum class Action { kKill, kStop, kExit, kError, kDelay, kWait };
  struct Point {
    std::string name;
    Action action = Action::kKill;
    std::string path;
    int64_t milliseconds = 0;
    int rank = -1;
    int64_t hit = 1;
    bool always = false;
    int64_t seen = 0;
    int line = 0;
  };

  Failpoints(std::string path, int rank) : path_(std::move(path)), rank_(rank) {}
  // What is wrong with the line; empty: nothing.
  static std::string Parse(const std::vector<std::string>& words, Point* point);
  // This visit, already counted, is the point's.
  bool Due(const Point& point) const;
  // True for the first process that asks.
  bool Claim(const Point& point) const;
  absl::Status Act(const Point& point) const;

  const std::string path_;
  const int rank_;
  std::mutex mutex_;
  std::vector<Point> points_;
};

// For a pointer that is null unless failpoints are armed.
inline absl::Status HitFailpoint(Failpoints* failpoints, std::string_view name) {
  return failpoints == nullptr ? absl::OkStatus() : failpoints->Hit(name);
}

}  // namespace lockstep
