// SPDX-License-Identifier: Apache-2.0
// Finds and loads the CUDA plug-in, so that one program serves machines with and without CUDA.
//
// The plug-in, liblockstep_cuda.so, is looked for in the folders of LOCKSTEP_PLUGIN_PATH (separated by ':'), beside the
// program, and in ../lib beside the program's folder. CUDA's libraries are looked for in the folders of
// LOCKSTEP_CUDA_LIB_PATH, where the system looks, in the toolkit's folder, and in those of NVIDIA's Python packages
// (site-packages/nvidia/*/lib).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/device.h"
#include "worker/device/plugin.h"

namespace lockstep {

// Loads the plug-in, once for the process: later calls give the first one's answer. Any thread. NOT_FOUND where there
// is no plug-in, FAILED_PRECONDITION where there is no driver or it cannot be used, in a sentence for people.
absl::StatusOr<const DevicePlugin*> LoadCudaPlugin();

// The GPUs that this process may use; where there are none, also for want of a plug-in, the list says why. Any thread.
GpuList ListGpus();

// A device on GPU `index` of ListGpus.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int index);

// For tests and for who prints them.
//
// Folders in which the plug-in is looked for, in order.
std::vector<std::string> PluginFolders();
// Folders in which CUDA's libraries are looked for before, and after, the system is asked.
std::vector<std::string> CudaFoldersFirst();
std::vector<std::string> CudaFoldersLast();
// Opens the plug-in in this file. As LoadCudaPlugin, without its memory.
absl::StatusOr<const DevicePlugin*> OpenPlugin(const std::string& path);

}  // namespace lockstep
