// SPDX-License-Identifier: Apache-2.0
// One thread that calls functions later.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace lockstep::rpc {

// Thread-safe. Functions must be short and must not throw.
class TimerQueue {
 public:
  TimerQueue();
  // What is not yet due is never called.
  ~TimerQueue();

  void Schedule(std::chrono::milliseconds delay, std::function<void()> function);
  // Nothing is called after it returns.
  void Stop();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<std::chrono::steady_clock::time_point, std::function<void()>> due_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace lockstep::rpc
