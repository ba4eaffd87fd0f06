// SPDX-License-Identifier: Apache-2.0
// What a rank computes on, and what all ranks must agree on about it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/device/named_device.h"
#include "worker/device/placement.h"

namespace lockstep {

struct DeviceChoice {
  DeviceWish wish = DeviceWish::kAuto;
  LocalPlace place;
  // The job's resources.share_devices.
  bool share = false;
  // Of the CPU.
  int threads = 1;
};

// By ChooseGpu. FAILED_PRECONDITION where a GPU is asked for and the rank can have none, in a sentence for people.
absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceChoice& choice);
absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceChoice& choice, const GpuSource& gpus);

// True where each rank said yes. A collective; errors as of Communicator::Exchange.
absl::StatusOr<bool> AllSay(Communicator& communicator, bool yes);

// What every rank took, by rank; each gives its own. Names that are longer than kMaxName are cut. A collective; errors
// as of Communicator::Exchange.
inline constexpr size_t kMaxName = 255;
absl::StatusOr<std::vector<TakenGpu>> ExchangeTaken(Communicator& communicator, const std::string& host,
                                                    const std::string& uuid);

// What the ranks' devices, taken together, come to.
struct Agreement {
  // The same on every rank; not empty: what was chosen is not used, all train on the CPU, since.
  std::string why_cpu;
  // Ranks share a GPU.
  bool shared = false;
  // How many ranks chose a GPU that is not used.
  int unused_gpus = 0;
};
// Each rank comes with what it chose (`uuid` empty: the CPU) and with the same wish and `share`. Where the choice is
// ours, one that cannot have a GPU of its own takes all to the CPU: a sum over both kinds would be neither's.
// FAILED_PRECONDITION where GPUs are asked for and two ranks took one. A collective; errors as of
// Communicator::Exchange.
absl::StatusOr<Agreement> AgreeOnDevices(Communicator& communicator, DeviceWish wish, bool share,
                                         const std::string& host, const std::string& uuid);

}  // namespace lockstep
