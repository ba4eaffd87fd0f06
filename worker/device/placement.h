// SPDX-License-Identifier: Apache-2.0
// Placement: which GPU a rank takes, and on which cores its threads run. Functions of what they are given; only the
// last part touches the machine.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

// Which of the ranks on its host this one is.
struct LocalPlace {
  int rank = 0;
  // How many there are.
  int size = 1;
};

// A variable's value; null: it is not set.
using Environment = std::function<const char*(const char* name)>;

// As mpirun (OMPI_COMM_WORLD_LOCAL_RANK) or Slurm (SLURM_LOCALID) says; without either the rank is alone.
// INVALID_ARGUMENT where what they say is no place.
absl::StatusOr<LocalPlace> LocalPlaceOf(const Environment& environment);

// Those of `uuids`, the host's GPUs in the driver's order, that a value of CUDA_VISIBLE_DEVICES leaves, in its order:
// indices, or beginnings of UUIDs that only one GPU has. As CUDA does, what follows on one that is wrong or comes again
// is left out. Null: all.
std::vector<int> VisibleGpus(const char* value, std::span<const std::string> uuids);

// The index, among `visible` GPUs (their UUIDs, as CUDA numbers them), of the one for this rank: its own place, or the
// only one, which Slurm may have picked for it. FAILED_PRECONDITION where ranks outnumber GPUs and they may not be
// shared, with what to do.
absl::StatusOr<int> ChooseGpu(const LocalPlace& place, std::span<const std::string> visible, bool share);

// What a rank took.
struct TakenGpu {
  int rank = 0;
  std::string host;
  std::string uuid;
};
// Each rank sees its own GPUs alone, so only all of them together know of one that two have taken: FAILED_PRECONDITION
// that names them, unless they may share.
absl::Status CheckGpus(std::span<const TakenGpu> taken, bool share);
// True: ranks share one, so that NCCL, which cannot, is not used.
bool AnyShared(std::span<const TakenGpu> taken);

// "0-3,8,10-11", as in sysfs. INVALID_ARGUMENT.
absl::StatusOr<std::vector<int>> ParseCpuList(const std::string& text);

// The cores beside the GPU at this PCI address ("0000:17:00.0"), by sysfs; empty: the host has one node, or does not
// say. `sysfs`: "/sys" but for tests.
std::vector<int> CoresBeside(const std::string& pci, const std::string& sysfs = "/sys");

// The calling thread, and those that it makes from now on, run on these cores, as far as they were allowed to before.
// FAILED_PRECONDITION where none of them is, which changes nothing.
absl::Status BindThread(std::span<const int> cores);

}  // namespace lockstep
