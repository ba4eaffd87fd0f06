// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/ranges.h"

#include <nvtx3/nvToolsExt.h>

namespace lockstep::cuda {

namespace {

class NvtxRanges final : public RangeMarker {
 public:
  explicit NvtxRanges(nvtxDomainHandle_t domain) : domain_(domain) {}
  ~NvtxRanges() override { nvtxDomainDestroy(domain_); }
  NvtxRanges(const NvtxRanges&) = delete;
  NvtxRanges& operator=(const NvtxRanges&) = delete;

  void Begin(const char* name) override {
    nvtxEventAttributes_t attributes{};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
    attributes.message.ascii = name;
    nvtxDomainRangePushEx(domain_, &attributes);
  }
  void End() override { nvtxDomainRangePop(domain_); }

 private:
  nvtxDomainHandle_t domain_;
};

}  // namespace

std::unique_ptr<RangeMarker> MakeRangeMarker() {
  // NVTX gives none where no profiler has put itself into the process.
  const nvtxDomainHandle_t domain = nvtxDomainCreateA("lockstep");
  if (domain == nullptr) return nullptr;
  return std::make_unique<NvtxRanges>(domain);
}

}  // namespace lockstep::cuda
