// SPDX-License-Identifier: Apache-2.0
#include "worker/device/placement.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

// Nobody has more; keeps a damaged list from taking all memory.
constexpr int kMaxCores = 1 << 16;

// nullopt: not set.
absl::StatusOr<std::optional<int>> Number(const Environment& environment, const char* name) {
  const char* value = environment(name);
  if (value == nullptr || *value == '\0') return std::optional<int>();
  int number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is \"", value, "\", which is no number of a rank"));
  }
  return std::optional<int>(number);
}

// Slurm's "8(x2),4": tasks of each node, in order.
int TasksOfNode(const std::string& text, int node) {
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> split = absl::StrSplit(part, absl::MaxSplits("(x", 1));
    int tasks = 0, nodes = 1;
    if (!absl::SimpleAtoi(split.first, &tasks)) return 0;
    if (!split.second.empty() && !absl::SimpleAtoi(absl::StripSuffix(split.second, ")"), &nodes)) return 0;
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return 0;
}

absl::StatusOr<LocalPlace> FromSlurm(const Environment& environment, int rank) {
  LocalPlace place{rank, rank + 1};
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<int> node, Number(environment, "SLURM_NODEID"));
  for (const char* name : {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"}) {
    const char* value = environment(name);
    if (value == nullptr) continue;
    const int tasks = TasksOfNode(value, node.value_or(0));
    if (tasks > rank) return LocalPlace{rank, tasks};
  }
  return place;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

}  // namespace

absl::StatusOr<LocalPlace> LocalPlaceOf(const Environment& environment) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<int> rank, Number(environment, "OMPI_COMM_WORLD_LOCAL_RANK"));
  if (rank.has_value()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<int> size, Number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"));
    if (size.has_value() && *size <= *rank) {
      return absl::InvalidArgumentError(
          absl::StrCat("OMPI_COMM_WORLD_LOCAL_RANK is ", *rank, ", but OMPI_COMM_WORLD_LOCAL_SIZE only ", *size));
    }
    return LocalPlace{*rank, size.value_or(*rank + 1)};
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<int> task, Number(environment, "SLURM_LOCALID"));
  if (task.has_value()) return FromSlurm(environment, *task);
  return LocalPlace{};
}

std::vector<int> VisibleGpus(const char* value, std::span<const std::string> uuids) {
  std::vector<int> visible;
  const auto count = static_cast<int>(uuids.size());
  if (value == nullptr) {
    for (int i = 0; i < count; ++i) visible.push_back(i);
    return visible;
  }
  for (const absl::string_view entry : absl::StrSplit(value, ',')) {
    const absl::string_view name = absl::StripAsciiWhitespace(entry);
    int found = -1;
    if (!absl::SimpleAtoi(name, &found)) {
      const auto begins = [&](const std::string& uuid) { return !name.empty() && absl::StartsWith(uuid, name); };
      if (std::ranges::count_if(uuids, begins) != 1) break;
      found = static_cast<int>(std::ranges::find_if(uuids, begins) - uuids.begin());
    }
    if (found < 0 || found >= count || std::ranges::find(visible, found) != visible.end()) break;
    visible.push_back(found);
  }
  return visible;
}

absl::StatusOr<int> ChooseGpu(const LocalPlace& place, std::span<const std::string> visible, bool share) {
  const auto gpus = static_cast<int>(visible.size());
  if (gpus == 0) return absl::FailedPreconditionError("there is no GPU that this rank may use");
  // The others may see others: CheckGpus finds out.
  if (gpus == 1) return 0;
  if (place.size <= gpus || share) return place.rank % gpus;
  return absl::FailedPreconditionError(
      absl::StrCat(place.size, " ranks run on this host, but only ", gpus,
                   " GPUs may be used (CUDA_VISIBLE_DEVICES counts): ask for ", gpus,
                   " workers a host, or set resources.share_devices, which is slower and made for tests"));
}

absl::Status CheckGpus(std::span<const TakenGpu> taken, bool share) {
  if (share) return absl::OkStatus();
  std::map<std::pair<std::string, std::string>, int> first;
  for (const TakenGpu& gpu : taken) {
    const auto [it, is_new] = first.try_emplace({gpu.host, gpu.uuid}, gpu.rank);
    if (is_new) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "ranks ", it->second, " and ", gpu.rank, " on host ", gpu.host, " would share the GPU ", gpu.uuid,
        ": ask for fewer workers a host, give each rank a GPU (CUDA_VISIBLE_DEVICES), or set resources.share_devices"));
  }
  return absl::OkStatus();
}

bool AnyShared(std::span<const TakenGpu> taken) { return !CheckGpus(taken, /*share=*/false).ok(); }

absl::StatusOr<std::vector<int>> ParseCpuList(const std::string& text) {
  std::vector<int> cores;
  for (const absl::string_view part : absl::StrSplit(absl::StripAsciiWhitespace(text), ',', absl::SkipEmpty())) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last) || first < 0 || last < first ||
        last >= kMaxCores) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no list of cores"));
    }
    for (int core = first; core <= last; ++core) cores.push_back(core);
  }
  return cores;
}

std::vector<int> CoresBeside(const std::string& pci, const std::string& sysfs) {
  std::string address = absl::AsciiStrToLower(pci);
  // CUDA may give the domain eight digits, sysfs has four.
  if (address.size() > 12 && absl::StartsWith(address, "0000")) address = address.substr(address.size() - 12);
  int node = -1;
  const std::string text = FirstLine(absl::StrCat(sysfs, "/bus/pci/devices/", address, "/numa_node"));
  // -1: the machine does not say.
  if (!absl::SimpleAtoi(text, &node) || node < 0) return {};
  const auto cores = ParseCpuList(FirstLine(absl::StrCat(sysfs, "/devices/system/node/node", node, "/cpulist")));
  return cores.ok() ? *cores : std::vector<int>();
}

absl::Status BindThread(std::span<const int> cores) {
  if (cores.empty()) return absl::OkStatus();
  cpu_set_t allowed, wanted;
  CPU_ZERO(&allowed);
  CPU_ZERO(&wanted);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("sched_getaffinity: ", std::strerror(errno)));
  }
  for (const int core : cores) {
    if (core >= 0 && core < CPU_SETSIZE && CPU_ISSET(core, &allowed)) CPU_SET(core, &wanted);
  }
  if (CPU_COUNT(&wanted) == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("none of the cores ", absl::StrJoin(cores, ","), " may be used: the rank stays where it is"));
  }
  if (sched_setaffinity(0, sizeof(wanted), &wanted) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("sched_setaffinity: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
