// SPDX-License-Identifier: Apache-2.0
// What a simulation is made of: chance from one seed, virtual time, and a transcript of what happened.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lockstep::sim {

// A good hash of two words; also the simulated arithmetic of a training step.
inline uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a + 0x9e3779b97f4a7c15u * (b + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class World {
 public:
  explicit World(uint64_t seed) : random_(Mix(seed, 0x5eed)) {}

  int64_t now() const { return now_; }

  int Below(int n) { return static_cast<int>((random_ = Mix(random_, 1)) % static_cast<uint64_t>(n)); }
  // Both ends included.
  int Between(int low, int high) { return low + Below(high - low + 1); }
  bool Chance(int permille) { return Below(1000) < permille; }

  void After(int64_t milliseconds, std::function<void()> what) {
    queue_.push_back({now_ + milliseconds, ++events_, std::move(what)});
    std::push_heap(queue_.begin(), queue_.end(), Later);
  }
  // Lets the next thing happen. False: nothing is left, or the simulation has failed.
  bool Step() {
    if (queue_.empty() || failed()) return false;
    std::pop_heap(queue_.begin(), queue_.end(), Later);
    const Item item = std::move(queue_.back());
    queue_.pop_back();
    now_ = item.time;
    item.what();
    return true;
  }

  // One line of the transcript.
  void Note(const char* what, const std::string& job, int64_t generation, int rank, int64_t a = 0, int64_t b = 0) {
    uint64_t text = 0;
    for (const char* c = what; *c != 0; ++c) text = text * 131 + static_cast<unsigned char>(*c);
    for (const char c : job) text = text * 131 + static_cast<unsigned char>(c);
    hash_ = Mix(Mix(Mix(hash_, text), static_cast<uint64_t>(now_ * 64 + rank)),
                static_cast<uint64_t>(generation) ^ Mix(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
    lines_[next_line_++ % kLines] = {now_, what, job, generation, rank, a, b};
  }
  uint64_t hash() const { return hash_; }
  uint64_t events() const { return events_; }

  // A promise is broken. The first one counts.
  void Fail(const std::string& why) {
    if (failure_.empty()) failure_ = absl::StrCat("at ", now_, " ms: ", why);
  }
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  // The newest lines of the transcript, oldest first.
  std::string Tail() const {
    std::string text;
    const size_t count = std::min<size_t>(next_line_, kLines);
    for (size_t i = next_line_ - count; i < next_line_; ++i) {
      const Line& line = lines_[i % kLines];
      absl::StrAppend(&text, line.time, " ", line.what, " ", line.job, "/", line.generation, " rank ", line.rank, " ",
                      line.a, " ", line.b, "\n");
    }
    return text;
  }

 private:
  struct Item {
    int64_t time = 0;
    uint64_t order = 0;
    std::function<void()> what;
  };
  struct Line {
    int64_t time = 0;
    const char* what = "";
    std::string job;
    int64_t generation = 0;
    int rank = 0;
    int64_t a = 0, b = 0;
  };
  static constexpr size_t kLines = 120;

  static bool Later(const Item& a, const Item& b) { return a.time != b.time ? a.time > b.time : a.order > b.order; }

  uint64_t random_;
  int64_t now_ = 0;
  uint64_t events_ = 0;
  std::vector<Item> queue_;
  uint64_t hash_ = 0;
  std::vector<Line> lines_ = std::vector<Line>(kLines);
  size_t next_line_ = 0;
  std::string failure_;
};

}  // namespace lockstep::sim
