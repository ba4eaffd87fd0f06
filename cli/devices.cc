// SPDX-License-Identifier: Apache-2.0
#include "cli/devices.h"

#include <ostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {

std::string DevicesTable(const HostDevices& devices) {
  const CpuInfo& cpu = devices.cpu;
  std::vector<std::vector<std::string>> rows{{"DEVICE", "NAME", "MEMORY", "CAPABILITY", "DETAILS"}};
  rows.push_back({"cpu", cpu.model, "", cpu.instruction_set, absl::StrCat(cpu.threads, " threads")});
  for (const GpuInfo& gpu : devices.gpus.gpus) {
    const double gib = static_cast<double>(gpu.memory_bytes) / static_cast<double>(int64_t{1} << 30);
    rows.push_back({absl::StrCat("cuda:", gpu.index), gpu.name, absl::StrFormat("%.1f GiB", gib),
                    absl::StrCat(gpu.major, ".", gpu.minor), gpu.pci});
  }
  std::string text = Table(rows);
  const GpuList& list = devices.gpus;
  if (list.gpus.empty()) return absl::StrCat(text, "no GPU: ", list.none_because, "\n");
  const std::string driver = list.driver_release.empty() ? absl::StrCat("for CUDA ", list.driver) : list.driver_release;
  return absl::StrCat(text, "driver ", driver, ", CUDA ", list.runtime, ", cuBLASLt ", list.blas, ", cuDNN ", list.dnn,
                      "\n");
}

std::string DevicesJson(const HostDevices& devices) {
  const GpuList& list = devices.gpus;
  nlohmann::ordered_json gpus = nlohmann::ordered_json::array();
  for (const GpuInfo& gpu : list.gpus) {
    gpus.push_back({{"index", gpu.index},
                    {"name", gpu.name},
                    {"uuid", gpu.uuid},
                    {"memory_bytes", gpu.memory_bytes},
                    {"compute_capability", absl::StrCat(gpu.major, ".", gpu.minor)},
                    {"multiprocessors", gpu.multiprocessors},
                    {"pci", gpu.pci}});
  }
  const nlohmann::ordered_json all{{"cpu",
                                    {{"model", devices.cpu.model},
                                     {"instruction_set", devices.cpu.instruction_set},
                                     {"threads", devices.cpu.threads}}},
                                   {"gpus", gpus},
                                   {"no_gpu_because", list.none_because},
                                   {"driver", list.driver_release},
                                   {"driver_cuda", list.driver},
                                   {"cuda", list.runtime},
                                   {"cublaslt", list.blas},
                                   {"cudnn", list.dnn}};
  return all.dump(2) + "\n";
}

int Devices(const Options& options) {
  const HostDevices devices = ListHostDevices();
  *options.out << (options.json ? DevicesJson(devices) : DevicesTable(devices));
  return kOk;
}

}  // namespace lockstep::cli
