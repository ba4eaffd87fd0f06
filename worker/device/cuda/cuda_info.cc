// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/cuda_info.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace lockstep::cuda {

namespace {

// Before it the tensor units that precisions and cuBLASLt's epilogues count on are not there, and no code is built.
constexpr int kMinMajor = 8;

// "GPU-" and 16 bytes, as nvidia-smi writes them.
std::string UuidText(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppendFormat(&text, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

// CUDA answers the same to a machine without a GPU and to one that hides it.
std::string WhyNone(cudaError_t error, const std::string& driver) {
  if (driver.empty()) return "no NVIDIA driver is installed on this machine (libcuda.so.1)";
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (error == cudaErrorInsufficientDriver) {
    return absl::StrCat("the NVIDIA driver is too old: it serves CUDA ", driver, ", and this build needs ",
                        CudaVersion(CUDART_VERSION));
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    return visible == nullptr
               ? "the NVIDIA driver finds no GPU on this machine"
               : absl::StrCat("the NVIDIA driver shows no GPU, since CUDA_VISIBLE_DEVICES is '", visible, "'");
  }
  return absl::StrCat("the NVIDIA driver cannot be used: ", cudaGetErrorString(error));
}

GpuInfo InfoOf(int index, const cudaDeviceProp& properties) {
  GpuInfo info{.index = index,
               .name = properties.name,
               .uuid = UuidText(properties.uuid),
               .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem),
               .major = properties.major,
               .minor = properties.minor,
               .multiprocessors = properties.multiProcessorCount};
  char pci[32] = {};
  if (cudaDeviceGetPCIBusId(pci, sizeof(pci), index) == cudaSuccess) info.pci = pci;
  return info;
}

}  // namespace

std::string CudaVersion(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

GpuList ListGpus() {
  GpuList list;
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) list.driver = CudaVersion(driver);
  list.runtime = CudaVersion(CUDART_VERSION);
  std::ifstream release("/sys/module/nvidia/version");
  std::getline(release, list.driver_release);
  const size_t blas = cublasLtGetVersion();
  list.blas = absl::StrCat(blas / 10000, ".", blas / 100 % 100, ".", blas % 100);
  const size_t dnn = cudnnGetVersion();
  list.dnn = absl::StrCat(dnn / 10000, ".", dnn / 100 % 100, ".", dnn % 100);
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  // Remembered by CUDA, and no error of the calls that come.
  static_cast<void>(cudaGetLastError());
  if (error != cudaSuccess || count == 0) {
    list.none_because = WhyNone(error, list.driver);
    return list;
  }
  std::string old;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    if (properties.major < kMinMajor) {
      old = absl::StrCat(properties.name, " has compute capability ", properties.major, ".", properties.minor);
      continue;
    }
    list.gpus.push_back(InfoOf(i, properties));
  }
  if (list.gpus.empty()) {
    list.none_because = old.empty() ? "no GPU answers" : absl::StrCat(old, ", and ", kMinMajor, ".0 is needed");
  }
  return list;
}

std::string DescribeGpu(const GpuList& list, int index) {
  for (const GpuInfo& gpu : list.gpus) {
    if (gpu.index != index) continue;
    return absl::StrCat("cuda ", gpu.name, ", compute capability ", gpu.major, ".", gpu.minor, ", driver ",
                        list.driver_release.empty() ? absl::StrCat("for CUDA ", list.driver) : list.driver_release,
                        ", cuBLASLt ", list.blas, ", cuDNN ", list.dnn);
  }
  return "cuda";
}

}  // namespace lockstep::cuda
