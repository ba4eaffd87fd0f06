// SPDX-License-Identifier: Apache-2.0
// What a rank computes on.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/device/device.h"
#include "worker/device/plugin.h"

namespace lockstep {

// The job's resources.device.
enum class DeviceWish { kAuto, kCpu, kCuda };

struct ChosenDevice {
  std::unique_ptr<Device> device;
  // Where the wish was kAuto and it is the CPU: why.
  std::string why_cpu;
};

// Where GPUs come from; device_loader.h, or a test.
struct GpuSource {
  std::function<GpuList()> list;
  std::function<absl::StatusOr<std::unique_ptr<Device>>(int index)> make;
};

// `local_rank`: among the ranks of this host, which take its GPUs in turn. FAILED_PRECONDITION where a GPU is asked for
// and none can be used, in a sentence for people.
absl::StatusOr<ChosenDevice> ChooseDevice(DeviceWish wish, int local_rank, int threads);
absl::StatusOr<ChosenDevice> ChooseDevice(DeviceWish wish, int local_rank, int threads, const GpuSource& gpus);

// True where each rank said yes. A collective; errors as of Communicator::Exchange.
absl::StatusOr<bool> AllSay(Communicator& communicator, bool yes);

}  // namespace lockstep
