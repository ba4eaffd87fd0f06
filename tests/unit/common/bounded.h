// SPDX-License-Identifier: Apache-2.0
// Runs something in a process of its own and looks at the memory that it took.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace lockstep {

struct BoundedRun {
  std::string message;
  // More than there was before.
  int64_t peak_bytes = 0;
};

// `run` must not succeed; what it says, and its peak of resident memory. A crash fails the test.
inline BoundedRun RunBounded(const std::function<absl::Status()>& run) {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    const std::string message(run().message());
    const bool written = write(ends[1], message.data(), std::min<size_t>(message.size(), 4096)) >= 0;
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  BoundedRun result;
  char text[4097];
  for (ssize_t got = 0; (got = read(ends[0], text, sizeof(text))) > 0;) result.message.append(text, got);
  close(ends[0]);
  int status = 0;
  rusage usage{};
  EXPECT_EQ(wait4(child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the child ended with status " << status;
  EXPECT_NE(result.message, "") << "it was not refused";
  result.peak_bytes = int64_t{usage.ru_maxrss} * 1024 - resident * sysconf(_SC_PAGESIZE);
  return result;
}

}  // namespace lockstep
