// SPDX-License-Identifier: Apache-2.0
// Processes by id, told apart from later ones with the same id by their start time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep::launch {

// Start time in clock ticks since boot, from /proc; 0 where there is no such process or it is a zombie.
int64_t StartTimeOf(pid_t pid);
// True where there is no such process, or it is a zombie or about to become one.
bool IsGone(pid_t pid);
// The same for a process on a named machine; false where that is not this one, of which nothing is known.
bool IsGoneFrom(const std::string& host, int64_t pid);
// Every process below `root` in the tree of parents, without `root` itself.
std::vector<pid_t> DescendantsOf(pid_t root);
// Every process whose environment, as it was when its program started, holds this "NAME=VALUE". Finds what
// no tree of parents holds together any more.
std::vector<pid_t> ProcessesWith(const std::string& assignment);
// Identifies the running kernel: process ids and start times mean nothing after a reboot.
std::string BootId();

}  // namespace lockstep::launch
