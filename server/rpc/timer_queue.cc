// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/timer_queue.h"

#include <utility>

namespace lockstep::rpc {

TimerQueue::TimerQueue() : thread_([this] { Run(); }) {}

TimerQueue::~TimerQueue() { Stop(); }

void TimerQueue::Schedule(std::chrono::milliseconds delay, std::function<void()> function) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  due_.emplace(std::chrono::steady_clock::now() + delay, std::move(function));
  changed_.notify_all();
}

void TimerQueue::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void TimerQueue::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (due_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = due_.begin();
    if (std::chrono::steady_clock::now() < first->first) {
      const auto when = first->first;
      changed_.wait_until(lock, when);
      continue;
    }
    auto function = std::move(first->second);
    due_.erase(first);
    lock.unlock();
    function();
    function = nullptr;  // What it holds is let go outside the lock.
    lock.lock();
  }
}

}  // namespace lockstep::rpc
