// SPDX-License-Identifier: Apache-2.0
#include "worker/train/choose_device.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/device/device_loader.h"

namespace lockstep {

namespace {

// A name as ranks send it: zeros fill it up.
using Name = std::array<char, kMaxName + 1>;
struct Names {
  Name host{};
  Name uuid{};
};

void Write(const std::string& text, Name& name) {
  std::memcpy(name.data(), text.data(), std::min(text.size(), kMaxName));
}

// Each rank's element goes to all others.
template <typename T>
absl::Status ShareAll(Communicator& communicator, std::vector<T>& all) {
  std::vector<Message> sends, receives;
  const auto bytes = [&](int rank) {
    return std::as_writable_bytes(std::span(all).subspan(static_cast<size_t>(rank), 1));
  };
  for (int peer = 0; peer < communicator.size(); ++peer) {
    if (peer == communicator.rank()) continue;
    sends.push_back({peer, bytes(communicator.rank())});
    receives.push_back({peer, bytes(peer)});
  }
  return communicator.Exchange(sends, receives);
}

absl::StatusOr<ChosenDevice> TakeGpu(const DeviceChoice& choice, const GpuSource& gpus) {
  const GpuList list = gpus.list();
  if (list.gpus.empty()) return absl::NotFoundError(list.none_because);
  std::vector<std::string> uuids;
  for (const GpuInfo& gpu : list.gpus) uuids.push_back(gpu.uuid);
  LOCKSTEP_ASSIGN_OR_RETURN(const int chosen, ChooseGpu(choice.place, uuids, choice.share));
  const GpuInfo& gpu = list.gpus[static_cast<size_t>(chosen)];
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, gpus.make(gpu.index));
  return ChosenDevice{std::move(device), gpu, ""};
}

}  // namespace

absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceChoice& choice) {
  return ChooseDevice(choice, {&ListGpus, &MakeCudaDevice});
}

absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceChoice& choice, const GpuSource& gpus) {
  std::string why;
  if (choice.wish != DeviceWish::kCpu) {
    absl::StatusOr<ChosenDevice> gpu = TakeGpu(choice, gpus);
    if (gpu.ok()) return gpu;
    why = std::string(gpu.status().message());
  }
  if (choice.wish != DeviceWish::kCuda) return ChosenDevice{MakeCpuDevice(choice.threads), std::nullopt, why};
  return absl::FailedPreconditionError(
      absl::StrCat("the job asks for GPUs (resources.device is DEVICE_CUDA): ", why,
                   "; `lockstep devices` says what a host has, and DEVICE_AUTO trains on the CPU instead"));
}

absl::StatusOr<bool> AllSay(Communicator& communicator, bool yes) {
  std::vector<uint8_t> all(static_cast<size_t>(communicator.size()), yes ? 1 : 0);
  LOCKSTEP_RETURN_IF_ERROR(ShareAll(communicator, all));
  return std::ranges::all_of(all, [](uint8_t word) { return word != 0; });
}

absl::StatusOr<std::vector<TakenGpu>> ExchangeTaken(Communicator& communicator, const std::string& host,
                                                    const std::string& uuid) {
  std::vector<Names> all(static_cast<size_t>(communicator.size()));
  Names& mine = all[static_cast<size_t>(communicator.rank())];
  Write(host, mine.host);
  Write(uuid, mine.uuid);
  LOCKSTEP_RETURN_IF_ERROR(ShareAll(communicator, all));
  std::vector<TakenGpu> taken;
  for (const Names& names : all) {
    taken.push_back({static_cast<int>(taken.size()), names.host.data(), names.uuid.data()});
  }
  return taken;
}

absl::StatusOr<Agreement> AgreeOnDevices(Communicator& communicator, DeviceWish wish, bool share,
                                         const std::string& host, const std::string& uuid) {
  // Nobody can have anything else.
  if (wish == DeviceWish::kCpu || communicator.size() == 1) return Agreement{};
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<TakenGpu> taken, ExchangeTaken(communicator, host, uuid));
  const auto found = static_cast<int>(std::ranges::count_if(taken, [](const TakenGpu& g) { return !g.uuid.empty(); }));
  const auto without = std::ranges::find_if(taken, [](const TakenGpu& gpu) { return gpu.uuid.empty(); });
  if (without != taken.end()) {
    return Agreement{absl::StrCat("rank ", without->rank, " on host ", without->host, " has no GPU"), false, found};
  }
  const absl::Status checked = CheckGpus(taken, share);
  if (checked.ok()) return Agreement{"", AnyShared(taken)};
  if (wish == DeviceWish::kCuda) return checked;
  return Agreement{std::string(checked.message()), false, found};
}

}  // namespace lockstep
