// SPDX-License-Identifier: Apache-2.0
#include "common/formats/fetch.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/digest.h"
#include "common/formats/atomic_file.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

constexpr long kConnectTimeoutSeconds = 5;
// A transfer slower than this for so long is given up.
constexpr long kLeastBytesPerSecond = 1000;
constexpr long kSlowSeconds = 15;
constexpr long kMaxRedirects = 5;

struct CurlCleanup {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};

// curl wants to be set up once in a process, before any thread uses it.
bool CurlIsReady() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return ready;
}

struct Transfer {
  const PinnedFile* file = nullptr;
  const FetchProgress* progress = nullptr;
  int fd = -1;
  int64_t done = 0;
  std::string problem;
};

// A short count makes curl stop.
size_t OnData(char* data, size_t size, size_t count, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  const size_t bytes = size * count;
  if (transfer.done + static_cast<int64_t>(bytes) > transfer.file->bytes) {
    transfer.problem = absl::StrCat("sends more than the ", transfer.file->bytes, " bytes that the file has");
    return 0;
  }
  size_t written = 0;
  while (written < bytes) {
    const ssize_t n = write(transfer.fd, data + written, bytes - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      transfer.problem = absl::StrCat("cannot store the data: ", std::strerror(errno));
      return 0;
    }
    written += static_cast<size_t>(n);
  }
  transfer.done += static_cast<int64_t>(bytes);
  if (*transfer.progress) (*transfer.progress)(transfer.file->name, transfer.done, transfer.file->bytes);
  return bytes;
}

absl::Status Download(const std::string& url, Transfer& transfer) {
  if (!CurlIsReady()) return absl::InternalError("curl cannot be set up");
  const std::unique_ptr<CURL, CurlCleanup> curl(curl_easy_init());
  if (curl == nullptr) return absl::ResourceExhaustedError("curl has no memory");
  char detail[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_MAXREDIRS, kMaxRedirects);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, kConnectTimeoutSeconds);
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_LIMIT, kLeastBytesPerSecond);
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_TIME, kSlowSeconds);
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, &OnData);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &transfer);
  const CURLcode code = curl_easy_perform(curl.get());
  if (code == CURLE_OK) return absl::OkStatus();
  if (!transfer.problem.empty()) return absl::DataLossError(absl::StrCat(url, ": ", transfer.problem));
  return absl::UnavailableError(absl::StrCat(url, ": ", detail[0] != '\0' ? detail : curl_easy_strerror(code)));
}

// Into `temporary`, checked and on disk.
absl::Status DownloadChecked(const PinnedFile& file, const std::string& url, const std::string& temporary,
                             const FetchProgress& progress) {
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0)
    return absl::FailedPreconditionError(absl::StrCat("cannot write ", temporary, ": ", std::strerror(errno)));
  Transfer transfer{.file = &file, .progress = &progress, .fd = fd};
  absl::Status status = Download(url, transfer);
  if (status.ok() && fsync(fd) != 0) status = absl::DataLossError(absl::StrCat(temporary, ": ", std::strerror(errno)));
  close(fd);
  LOCKSTEP_RETURN_IF_ERROR(status);
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string hash, Sha256File(temporary));
  if (hash == file.sha256) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(url, ": not the expected file: SHA-256 is ", hash, ", expected ", file.sha256));
}

absl::Status FetchOne(const PinnedFile& file, const std::vector<std::string>& mirrors, const fs::path& folder,
                      const FetchProgress& progress) {
  const std::string path = (folder / file.name).string();
  if (const absl::StatusOr<std::string> hash = Sha256File(path); hash.ok() && *hash == file.sha256) {
    if (progress) progress(file.name, file.bytes, file.bytes);
    return absl::OkStatus();
  }
  // Two that fetch at the same time do not write into one file.
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".part");
  std::vector<std::string> answers;
  bool reached = false;
  for (const std::string& mirror : mirrors) {
    const absl::Status status = DownloadChecked(file, mirror + file.name, temporary, progress);
    if (status.ok()) {
      if (std::rename(temporary.c_str(), path.c_str()) == 0) return SyncFolder(folder.string());
      return absl::UnavailableError(absl::StrCat("cannot rename ", temporary, ": ", std::strerror(errno)));
    }
    unlink(temporary.c_str());
    if (absl::IsFailedPrecondition(status)) return status;
    reached = reached || absl::IsDataLoss(status);
    answers.emplace_back(status.message());
  }
  const std::string what =
      absl::StrCat("cannot get ", file.name, ": ", absl::StrJoin(answers, "; "), ". Put the file into ",
                   folder.string(), " by hand, or generate synthetic digits");
  return reached ? absl::DataLossError(what) : absl::UnavailableError(what);
}

}  // namespace

absl::Status FetchFiles(const std::vector<PinnedFile>& files, const std::vector<std::string>& mirrors,
                        const std::string& folder, const FetchProgress& progress) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return absl::FailedPreconditionError(absl::StrCat("cannot make the folder ", folder, ": ", error.message()));
  }
  for (const PinnedFile& file : files) LOCKSTEP_RETURN_IF_ERROR(FetchOne(file, mirrors, folder, progress));
  return absl::OkStatus();
}

const std::vector<PinnedFile>& MnistFiles() {
  static const auto* const kFiles = new std::vector<PinnedFile>{
      {"train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422},
      {"train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881},
      {"t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877},
      {"t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542}};
  return *kFiles;
}

const std::vector<std::string>& MnistMirrors() {
  static const auto* const kMirrors = new std::vector<std::string>{
      "https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"};
  return *kMirrors;
}

absl::Status FetchMnist(const std::string& folder, const FetchProgress& progress,
                        const std::vector<std::string>& mirrors) {
  return FetchFiles(MnistFiles(), mirrors, folder, progress);
}

}  // namespace lockstep
