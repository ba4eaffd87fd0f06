// SPDX-License-Identifier: Apache-2.0
#include "server/launch/process.h"

#include <dirent.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace lockstep::launch {
namespace {

struct Stat {
  char state = 'Z';
  pid_t parent = 0;
  unsigned flags = 0;
  int64_t start = 0;
};

// In the flags: the process is on its way out and its descriptors may be closed already.
constexpr unsigned kExiting = 0x4;

// Reads /proc/PID/stat. The name in it may hold spaces and brackets, so fields count from the last ')'.
bool ReadStat(pid_t pid, Stat* stat) {
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/%d/stat", static_cast<int>(pid));
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) return false;
  char text[2048];
  const size_t size = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  text[size] = '\0';
  const char* after = std::strrchr(text, ')');
  if (after == nullptr || after[1] == '\0') return false;
  long long start = 0;
  int parent = 0;
  char state = 'Z';
  unsigned flags = 0;
  // state ppid, then 4 fields to skip, flags, then 12 to skip, then starttime (field 22).
  if (std::sscanf(after + 2, "%c %d %*s %*s %*s %*s %u %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld", &state,
                  &parent, &flags, &start) != 4) {
    return false;
  }
  *stat = {state, parent, flags, start};
  return true;
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return pids;
  while (const dirent* entry = readdir(proc)) {
    if (const pid_t pid = std::atoi(entry->d_name); pid > 0) pids.push_back(pid);
  }
  closedir(proc);
  return pids;
}

}  // namespace

int64_t StartTimeOf(pid_t pid) {
  Stat stat;
  if (pid <= 0 || !ReadStat(pid, &stat) || stat.state == 'Z') return 0;
  return stat.start;
}

bool IsGone(pid_t pid) {
  Stat stat;
  return pid <= 0 || !ReadStat(pid, &stat) || stat.state == 'Z' || stat.state == 'X' || (stat.flags & kExiting) != 0;
}

bool IsGoneFrom(const std::string& host, int64_t pid) {
  char own[256] = {};
  gethostname(own, sizeof(own) - 1);
  return host == own && IsGone(static_cast<pid_t>(pid));
}

std::vector<pid_t> DescendantsOf(pid_t root) {
  std::multimap<pid_t, pid_t> children;
  for (const pid_t pid : AllProcesses()) {
    Stat stat;
    if (ReadStat(pid, &stat)) children.emplace(stat.parent, pid);
  }
  std::vector<pid_t> found;
  std::vector<pid_t> open{root};
  while (!open.empty()) {
    const pid_t parent = open.back();
    open.pop_back();
    const auto [first, last] = children.equal_range(parent);
    for (auto it = first; it != last; ++it) {
      found.push_back(it->second);
      open.push_back(it->second);
    }
  }
  return found;
}

std::vector<pid_t> ProcessesWith(const std::string& assignment) {
  std::vector<pid_t> found;
  const std::string wanted = '\0' + assignment + '\0';
  for (const pid_t pid : AllProcesses()) {
    // Empty for a zombie, unreadable for another user's.
    std::ifstream file("/proc/" + std::to_string(pid) + "/environ", std::ios::binary);
    const std::string text = '\0' + std::string(std::istreambuf_iterator<char>(file), {});
    if (text.find(wanted) != std::string::npos) found.push_back(pid);
  }
  return found;
}

std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

}  // namespace lockstep::launch
