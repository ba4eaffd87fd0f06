// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>

#include <filesystem>
#include <mutex>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/comm/nccl/nccl_api.h"

namespace lockstep::nccl {

namespace {

constexpr const char* kLibrary = "libnccl.so.2";

// Null: it is in none of them. Local to this loader: only its functions' addresses are used.
void* OpenIn(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    const std::filesystem::path path = std::filesystem::path(folder) / kLibrary;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

template <typename F>
absl::Status Find(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(kLibrary, " has no ", name, ": it is older than NCCL 2.18; install a newer one"));
}

absl::StatusOr<NcclApi> Fill(void* library) {
  NcclApi api;
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclGetVersion", api.GetVersion));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", api.GetUniqueId));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclCommInitRankConfig", api.CommInitRankConfig));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclCommGetAsyncError", api.CommGetAsyncError));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclCommFinalize", api.CommFinalize));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclCommDestroy", api.CommDestroy));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclCommAbort", api.CommAbort));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclGetErrorString", api.GetErrorString));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclGetLastError", api.GetLastError));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclGroupStart", api.GroupStart));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclGroupEnd", api.GroupEnd));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclSend", api.Send));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclRecv", api.Recv));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclAllGather", api.AllGather));
  LOCKSTEP_RETURN_IF_ERROR(Find(library, "ncclAllReduce", api.AllReduce));
  int version = 0;
  api.GetVersion(&version);
  if (version < static_cast<int>(Config::kMinVersion)) {
    return absl::FailedPreconditionError(
        absl::StrCat(kLibrary, " is NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100,
                     ", but 2.18 or newer is needed; install one, or name its folder in LOCKSTEP_CUDA_LIB_PATH"));
  }
  return api;
}

}  // namespace

absl::StatusOr<const NcclApi*> LoadNccl(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  static std::mutex mutex;
  static NcclApi api;
  static bool loaded = false;
  const std::lock_guard lock(mutex);
  if (loaded) return &api;
  void* library = OpenIn(before);
  if (library == nullptr) library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = OpenIn(after);
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat(kLibrary, " was found neither in [", absl::StrJoin(before, ":"),
                                            "], nor where the system looks, nor in [", absl::StrJoin(after, ":"),
                                            "]: install NCCL, or set LOCKSTEP_CUDA_LIB_PATH to the folder it is in"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(api, Fill(library));
  loaded = true;
  return &api;
}

}  // namespace lockstep::nccl
