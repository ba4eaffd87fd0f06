// SPDX-License-Identifier: Apache-2.0
#include "worker/train/choose_device.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/device/device_loader.h"

namespace lockstep {

absl::StatusOr<ChosenDevice> ChooseDevice(DeviceWish wish, int local_rank, int threads) {
  return ChooseDevice(wish, local_rank, threads, {&ListGpus, &MakeCudaDevice});
}

absl::StatusOr<ChosenDevice> ChooseDevice(DeviceWish wish, int local_rank, int threads, const GpuSource& gpus) {
  if (wish == DeviceWish::kCpu) return ChosenDevice{MakeCpuDevice(threads), ""};
  const GpuList list = gpus.list();
  std::string why = list.none_because;
  if (!list.gpus.empty()) {
    const size_t turn = static_cast<size_t>(local_rank) % list.gpus.size();
    absl::StatusOr<std::unique_ptr<Device>> device = gpus.make(list.gpus[turn].index);
    if (device.ok()) return ChosenDevice{std::move(*device), ""};
    why = std::string(device.status().message());
  }
  if (wish == DeviceWish::kAuto) return ChosenDevice{MakeCpuDevice(threads), why};
  return absl::FailedPreconditionError(
      absl::StrCat("the job asks for a GPU (resources.device is DEVICE_CUDA), but ", why,
                   "; `lockstep devices` says what a host has, and DEVICE_AUTO trains on the CPU where there is none"));
}

absl::StatusOr<bool> AllSay(Communicator& communicator, bool yes) {
  std::vector<uint8_t> all(static_cast<size_t>(communicator.size()), yes ? 1 : 0);
  std::vector<Message> sends, receives;
  const auto bytes = [&](int rank) {
    return std::as_writable_bytes(std::span(all).subspan(static_cast<size_t>(rank), 1));
  };
  for (int peer = 0; peer < communicator.size(); ++peer) {
    if (peer == communicator.rank()) continue;
    sends.push_back({peer, bytes(communicator.rank())});
    receives.push_back({peer, bytes(peer)});
  }
  LOCKSTEP_RETURN_IF_ERROR(communicator.Exchange(sends, receives));
  return std::ranges::all_of(all, [](uint8_t word) { return word != 0; });
}

}  // namespace lockstep
