// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_info.h"

#include <sched.h>

#include <fstream>
#include <thread>

#include "worker/device/cpu/kernels.h"

namespace lockstep {

namespace {

std::string Model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

int Threads() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

CpuInfo HostCpu() { return {Model(), ChooseKernels().name, Threads()}; }

}  // namespace lockstep
