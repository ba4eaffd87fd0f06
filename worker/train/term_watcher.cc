// SPDX-License-Identifier: Apache-2.0
#include "worker/train/term_watcher.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace lockstep {

namespace {

// Ends the thread; nobody else sends it.
constexpr int kWake = SIGUSR2;

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, kWake);
  return signals;
}

}  // namespace

void TermWatcher::Block() {
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

TermWatcher::TermWatcher(std::function<void()> on_term) : on_term_(std::move(on_term)), thread_([this] { Run(); }) {}

TermWatcher::~TermWatcher() {
  quit_.store(true);
  pthread_kill(thread_.native_handle(), kWake);
  thread_.join();
}

void TermWatcher::Run() {
  const sigset_t signals = Signals();
  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && !quit_.load()) {
    if (signal != kWake) on_term_();
  }
}

}  // namespace lockstep
