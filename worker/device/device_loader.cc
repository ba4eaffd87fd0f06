// SPDX-License-Identifier: Apache-2.0
#include "worker/device/device_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

constexpr const char* kPluginFile = "liblockstep_cuda.so";
constexpr const char* kDriverFile = "libcuda.so.1";
// A library of a plug-in may want others; so many at most.
constexpr int kMaxLibraries = 32;

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::vector<std::string> FoldersOf(const char* variable) {
  return absl::StrSplit(FromEnvironment(variable), ':', absl::SkipEmpty());
}

fs::path ProgramFolder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path() : program.parent_path();
}

// Adds the subfolders of `folder` whose names begin with `prefix`, each with `rest` behind it, that exist.
void AddMatching(const fs::path& folder, absl::string_view prefix, const fs::path& rest, std::vector<fs::path>& to) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().native();
    const fs::path path = entry.path() / rest;
    if (absl::StartsWith(name, prefix) && fs::is_directory(path, error)) to.push_back(path);
  }
}

// Where Python keeps packages: of a virtual environment, of conda, of the python3 that a shell would start, which may
// be that of an environment nobody has activated, of the user, of the machine.
std::vector<fs::path> PythonPackages() {
  std::vector<fs::path> roots;
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const std::string root = FromEnvironment(variable); !root.empty()) roots.emplace_back(root);
  }
  for (const fs::path folder : FoldersOf("PATH")) {
    std::error_code error;
    if (fs::exists(folder / "python3", error)) roots.push_back(folder.parent_path());
  }
  if (const std::string home = FromEnvironment("HOME"); !home.empty()) roots.push_back(fs::path(home) / ".local");
  roots.insert(roots.end(), {"/usr/local", "/usr", "/opt/conda", "/opt/venv"});
  std::vector<fs::path> packages;
  for (const fs::path& root : roots) {
    for (const char* kind : {"site-packages", "dist-packages"}) AddMatching(root / "lib", "python3", kind, packages);
  }
  return packages;
}

// "libcublasLt.so.13: cannot open shared object file: ..." names what is missing.
std::string MissingLibrary(absl::string_view error) {
  const size_t colon = error.find(": cannot open shared object file");
  if (colon == absl::string_view::npos) return "";
  const absl::string_view name = error.substr(0, colon);
  return absl::StrContains(name, '/') ? "" : std::string(name);
}

std::string LastError() {
  const char* error = dlerror();
  return error == nullptr ? "unknown error" : error;
}

// A library that others then find by its name, since it is there already.
bool Preload(const std::string& name, const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    const fs::path path = fs::path(folder) / name;
    std::error_code error;
    if (fs::exists(path, error) && dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return true;
  }
  return false;
}

// cuDNN loads its parts by name when it first needs them.
void PreloadParts(const std::string& name, const std::vector<std::string>& folders) {
  if (!absl::StartsWith(name, "libcudnn.so.")) return;
  const std::string version = name.substr(std::string("libcudnn").size());
  for (const char* part : {"graph", "ops", "cnn", "engines_precompiled", "engines_runtime_compiled", "heuristic"}) {
    Preload(absl::StrCat("libcudnn_", part, version), folders);
  }
}

absl::Status CannotLoad(const std::string& path, const std::string& error) {
  const std::string missing = MissingLibrary(error);
  if (missing.empty()) return absl::FailedPreconditionError(absl::StrCat("cannot load ", path, ": ", error));
  return absl::FailedPreconditionError(
      absl::StrCat("the CUDA library ", missing, " was not found; set LOCKSTEP_CUDA_LIB_PATH to the folder it is in"));
}

// CUDA's libraries are large; without a driver none of them is of use. Kept open, so that CUDA finds it by its name
// where the system does not look: containers have the host's driver in a folder of its own.
bool HasDriver() {
  if (dlopen(kDriverFile, RTLD_LAZY | RTLD_LOCAL) != nullptr) return true;
  return Preload(kDriverFile, {"/usr/local/nvidia/lib64", "/usr/lib/wsl/lib"});
}

absl::StatusOr<const DevicePlugin*> FindPlugin() {
  const std::vector<std::string> folders = PluginFolders();
  for (const std::string& folder : folders) {
    const fs::path path = fs::path(folder) / kPluginFile;
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    if (HasDriver()) return OpenPlugin(path.native());
    return absl::FailedPreconditionError("no NVIDIA driver is installed on this machine (libcuda.so.1 was not found)");
  }
  return absl::NotFoundError(
      absl::StrCat("this build has no CUDA plug-in: ", kPluginFile, " was not found beside the program"));
}

}  // namespace

std::vector<std::string> PluginFolders() {
  std::vector<std::string> folders = FoldersOf("LOCKSTEP_PLUGIN_PATH");
  if (const fs::path program = ProgramFolder(); !program.empty()) {
    folders.push_back(program.native());
    for (const char* lib : {"lib", "lib64", LOCKSTEP_INSTALL_LIBDIR}) {
      folders.push_back((program.parent_path() / lib).native());
    }
  }
  return folders;
}

std::vector<std::string> CudaFoldersFirst() { return FoldersOf("LOCKSTEP_CUDA_LIB_PATH"); }

std::vector<std::string> CudaFoldersLast() {
  std::vector<fs::path> folders;
  for (const fs::path& packages : PythonPackages()) AddMatching(packages / "nvidia", "", "lib", folders);
  std::vector<std::string> names;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const std::string root = FromEnvironment(variable); !root.empty()) names.push_back(root + "/lib64");
  }
  names.push_back("/usr/local/cuda/lib64");
  for (const fs::path& folder : folders) names.push_back(folder.native());
  return names;
}

absl::StatusOr<const DevicePlugin*> OpenPlugin(const std::string& path) {
  // What the person names comes before what the system has.
  const std::vector<std::string> first = CudaFoldersFirst();
  std::vector<std::string> all = first;
  for (const absl::string_view name : absl::StrSplit(LOCKSTEP_CUDA_SONAMES, ' ', absl::SkipEmpty())) {
    if (Preload(std::string(name), first)) PreloadParts(std::string(name), first);
  }
  for (std::string& folder : CudaFoldersLast()) all.push_back(std::move(folder));
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  std::string error = library == nullptr ? LastError() : "";
  for (int i = 0; i < kMaxLibraries && library == nullptr; ++i) {
    const std::string missing = MissingLibrary(error);
    if (missing.empty() || !Preload(missing, all)) break;
    PreloadParts(missing, all);
    library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) error = LastError();
  }
  if (library == nullptr) return CannotLoad(path, error);
  const auto function = reinterpret_cast<DevicePluginFunction>(dlsym(library, kDevicePluginFunction));
  const DevicePlugin* plugin = function == nullptr ? nullptr : function(LOCKSTEP_DEVICE_BUILD);
  if (plugin == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not of this version of Lockstep; install program and plug-in together"));
  }
  // Never closed: CUDA does not survive it.
  return plugin;
}

absl::StatusOr<const DevicePlugin*> LoadCudaPlugin() {
  static const absl::StatusOr<const DevicePlugin*> plugin = FindPlugin();
  return plugin;
}

GpuList ListGpus() {
  const absl::StatusOr<const DevicePlugin*> plugin = LoadCudaPlugin();
  if (!plugin.ok()) return {.none_because = std::string(plugin.status().message())};
  return (*plugin)->list();
}

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int index) {
  const absl::StatusOr<const DevicePlugin*> plugin = LoadCudaPlugin();
  if (!plugin.ok()) return plugin.status();
  return (*plugin)->make(index);
}

}  // namespace lockstep
