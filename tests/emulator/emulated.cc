// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/emulated.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

namespace lockstep::emulated {

Place here;
dim3 block_size, grid_size;

namespace {

constexpr size_t kStackBytes = size_t{64} << 10;
constexpr unsigned kLanes = 32;

// Those who wait for each other: a block, or a warp.
struct Meeting {
  unsigned members = 0;
  unsigned arrived = 0;
  uint64_t held = 0;

  void Close() {
    arrived = 0;
    ++held;
  }
};

// Lives on from launch to launch. It is begun by setcontext; after that turns are changed by jumps, which unlike
// swapcontext do not call the system.
struct Thread {
  jmp_buf place;
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
  dim3 index;
  bool begun = false;
  bool done = false;
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;
  Meeting all;
  std::vector<Meeting> warps;
  std::vector<uint64_t> values;
  jmp_buf scheduler;
  unsigned current = 0;
  // Something happened since the last round over all threads.
  bool moved = false;
  const std::function<void()>* kernel = nullptr;
};

// Of the launch under way: `__shared__` makes one at a time of them, whatever the host's threads do.
std::mutex one_launch;
Block* block = nullptr;

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what);
  std::abort();
}

// Back to who shares out the turns.
__attribute__((noinline)) void Turn() {
  if (_setjmp(block->threads[block->current]->place) == 0) _longjmp(block->scheduler, 1);
}

void Leave(Meeting& meeting) {
  --meeting.members;
  if (meeting.members > 0 && meeting.arrived == meeting.members) meeting.Close();
}

void Meet(Meeting& meeting) {
  block->moved = true;
  const uint64_t held = meeting.held;
  if (++meeting.arrived == meeting.members) return meeting.Close();
  while (meeting.held == held) Turn();
  block->moved = true;
}

void Run() {
  while (true) {
    (*block->kernel)();
    block->threads[block->current]->done = true;
    block->moved = true;
    Leave(block->all);
    Leave(block->warps[block->current / kLanes]);
    Turn();
  }
}

void Begin(Thread& thread) {
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = thread.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, &Run, 0);
  thread.begun = true;
  setcontext(&context);
}

// A thread's turn.
__attribute__((noinline)) void Continue(Thread& thread) {
  if (_setjmp(block->scheduler) != 0) return;
  if (thread.begun) _longjmp(thread.place, 1);
  Begin(thread);
}

void RunBlock(unsigned threads) {
  block->all = {.members = threads};
  block->warps.assign((threads + kLanes - 1) / kLanes, {});
  for (unsigned i = 0; i < threads; ++i) {
    ++block->warps[i / kLanes].members;
    block->threads[i]->done = false;
  }
  for (unsigned running = threads; running > 0;) {
    block->moved = false;
    running = 0;
    for (unsigned i = 0; i < threads; ++i) {
      Thread& thread = *block->threads[i];
      if (thread.done) continue;
      block->current = i;
      here.thread = thread.index;
      Continue(thread);
      if (!thread.done) ++running;
    }
    if (running > 0 && !block->moved) Fail("threads of a block wait for each other for ever");
  }
}

}  // namespace

void Launch(dim3 grid, dim3 size, const std::function<void()>& kernel) {
  static Block shared;
  const std::lock_guard lock(one_launch);
  const unsigned threads = size.x * size.y * size.z;
  if (threads == 0 || threads > 1024) Fail("a block has 1 to 1024 threads");
  if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z != 1) Fail("a grid of this size cannot be launched");
  block = &shared;
  block->kernel = &kernel;
  block->values.resize(threads);
  while (block->threads.size() < threads) block->threads.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < threads; ++i) {
    block->threads[i]->index = dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
  }
  block_size = size;
  grid_size = grid;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      here.block = dim3(x, y, 0);
      RunBlock(threads);
    }
  }
}

void BlockBarrier() { Meet(block->all); }

uint64_t Exchange(uint64_t value, int mask) {
  const unsigned me = block->current, other = me ^ static_cast<unsigned>(mask);
  block->values[me] = value;
  Meet(block->warps[me / kLanes]);
  if (other >= block->values.size() || block->threads[other]->done) Fail("a shuffle reads a lane that is not there");
  const uint64_t got = block->values[other];
  // Before the next exchange overwrites it.
  Meet(block->warps[me / kLanes]);
  return got;
}

bool AllOfWarp(bool value) {
  const unsigned me = block->current;
  block->values[me] = value ? 1 : 0;
  Meet(block->warps[me / kLanes]);
  bool all = true;
  for (unsigned i = me / kLanes * kLanes; i < block->values.size() && i < (me / kLanes + 1) * kLanes; ++i) {
    all = all && block->values[i] != 0;
  }
  Meet(block->warps[me / kLanes]);
  return all;
}

}  // namespace lockstep::emulated
