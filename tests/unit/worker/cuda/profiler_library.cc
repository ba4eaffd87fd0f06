// SPDX-License-Identifier: Apache-2.0
// A profiler, as NVTX meets one: the library that NVTX_INJECTION64_PATH names. It writes down the ranges.
#include <nvtx3/nvToolsExt.h>

#include <string>

namespace {

// "lockstep: step(dense forward()update())".
std::string seen;

nvtxDomainHandle_t NVTX_API CreateDomain(const char* name) {
  seen += std::string(name) + ": ";
  return reinterpret_cast<nvtxDomainHandle_t>(&seen);
}
int NVTX_API Push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* range) {
  const bool known = domain == reinterpret_cast<nvtxDomainHandle_t>(&seen) && range->version == NVTX_VERSION &&
                     range->size == sizeof(*range) && range->messageType == NVTX_MESSAGE_TYPE_ASCII;
  seen += (known ? std::string(range->message.ascii) : "?") + "(";
  return 0;
}
int NVTX_API Pop(nvtxDomainHandle_t) {
  seen += ")";
  return 0;
}

template <typename F>
void Take(NvtxFunctionTable table, int number, F* function) {
  *table[number] = reinterpret_cast<NvtxFunctionPointer>(function);
}

}  // namespace

extern "C" {

int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* const callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) == 0) return 0;
  if (size <= NVTX_CBID_CORE2_DomainCreateA) return 0;
  Take(table, NVTX_CBID_CORE2_DomainCreateA, &CreateDomain);
  Take(table, NVTX_CBID_CORE2_DomainRangePushEx, &Push);
  Take(table, NVTX_CBID_CORE2_DomainRangePop, &Pop);
  return 1;
}

const char* lockstep_test_ranges() { return seen.c_str(); }

}  // extern "C"
