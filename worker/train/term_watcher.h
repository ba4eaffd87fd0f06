// SPDX-License-Identifier: Apache-2.0
// TermWatcher: turns SIGTERM and SIGINT into a call on a thread of its own.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace lockstep {

class TermWatcher {
 public:
  // Before any thread is started: the signals must not reach another one.
  static void Block();

  // Calls `on_term` for each of the signals.
  explicit TermWatcher(std::function<void()> on_term);
  ~TermWatcher();

 private:
  void Run();

  const std::function<void()> on_term_;
  std::atomic<bool> quit_{false};
  std::thread thread_;
};

}  // namespace lockstep
