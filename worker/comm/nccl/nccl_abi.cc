// SPDX-License-Identifier: Apache-2.0
// Compiled where there is an nccl.h: nccl_api.h must say the same.
#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "worker/comm/nccl/nccl_api.h"

namespace lockstep::nccl {

static_assert(kSuccess == ncclSuccess && kUnhandledCudaError == ncclUnhandledCudaError);
static_assert(kSystemError == ncclSystemError && kRemoteError == ncclRemoteError && kInProgress == ncclInProgress);
static_assert(kFloat32 == ncclFloat32 && kFloat64 == ncclFloat64 && kSum == ncclSum && kMax == ncclMax);
static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId) && alignof(UniqueId) == alignof(ncclUniqueId));
static_assert(sizeof(int) == sizeof(ncclResult_t) && sizeof(int) == sizeof(ncclDataType_t));
static_assert(sizeof(Config) <= sizeof(ncclConfig_t));
static_assert(offsetof(Config, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(Config, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(Config, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(offsetof(Config, max_ctas) == offsetof(ncclConfig_t, maxCTAs));
static_assert(offsetof(Config, net_name) == offsetof(ncclConfig_t, netName));
static_assert(offsetof(Config, split_share) == offsetof(ncclConfig_t, splitShare));
static_assert(Config::kUndefined == NCCL_CONFIG_UNDEF_INT);

// The same parameters but for enumerations, which are ints.
template <typename T>
using Plain = std::conditional_t<std::is_enum_v<T>, int, std::conditional_t<std::is_pointer_v<T>, void*, T>>;
template <typename A, typename B>
struct SameCall : std::false_type {};
template <typename R1, typename... A1, typename R2, typename... A2>
requires(sizeof...(A1) == sizeof...(A2)) struct SameCall<R1 (*)(A1...), R2(A2...)>
    : std::bool_constant<(std::is_same_v<Plain<R1>, Plain<R2>> && ... &&
                          (std::is_same_v<Plain<A1>, Plain<A2>> || sizeof(A1) == sizeof(A2)))> {
};

static_assert(SameCall<decltype(NcclApi::GetVersion), decltype(ncclGetVersion)>());
static_assert(SameCall<decltype(NcclApi::GetUniqueId), decltype(ncclGetUniqueId)>());
static_assert(SameCall<decltype(NcclApi::CommInitRankConfig), decltype(ncclCommInitRankConfig)>());
static_assert(SameCall<decltype(NcclApi::CommGetAsyncError), decltype(ncclCommGetAsyncError)>());
static_assert(SameCall<decltype(NcclApi::CommFinalize), decltype(ncclCommFinalize)>());
static_assert(SameCall<decltype(NcclApi::CommDestroy), decltype(ncclCommDestroy)>());
static_assert(SameCall<decltype(NcclApi::CommAbort), decltype(ncclCommAbort)>());
static_assert(SameCall<decltype(NcclApi::GetErrorString), decltype(ncclGetErrorString)>());
static_assert(SameCall<decltype(NcclApi::GetLastError), decltype(ncclGetLastError)>());
static_assert(SameCall<decltype(NcclApi::GroupStart), decltype(ncclGroupStart)>());
static_assert(SameCall<decltype(NcclApi::GroupEnd), decltype(ncclGroupEnd)>());
static_assert(SameCall<decltype(NcclApi::Send), decltype(ncclSend)>());
static_assert(SameCall<decltype(NcclApi::Recv), decltype(ncclRecv)>());
static_assert(SameCall<decltype(NcclApi::AllGather), decltype(ncclAllGather)>());
static_assert(SameCall<decltype(NcclApi::AllReduce), decltype(ncclAllReduce)>());

}  // namespace lockstep::nccl
