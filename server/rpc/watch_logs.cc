// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/errors.h"
#include "server/rpc/training_service.h"

namespace lockstep::rpc {
namespace {

namespace v1 = lockstep::v1;

constexpr size_t kChunk = 64 * 1024;
constexpr std::chrono::milliseconds kPoll{200};

class WatchLogsReactor final : public grpc::ServerWriteReactor<v1::WatchLogsResponse>,
                               public std::enable_shared_from_this<WatchLogsReactor> {
 public:
  WatchLogsReactor(const ServiceContext& context, const v1::WatchLogsRequest& request)
      : context_(context), job_id_(request.job_id()), follow_(request.follow()) {}
  ~WatchLogsReactor() override {
    if (fd_ >= 0) close(fd_);
  }

  void Begin() {
    self_ = shared_from_this();
    Pump();
  }
  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ok) cancelled_ = true;
    }
    Pump();
  }
  void OnCancel() override {
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
    }
    Pump();
  }
  void OnDone() override { self_.reset(); }

 private:
  void Pump() {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    if (cancelled_) return End(grpc::Status(grpc::StatusCode::CANCELLED, "the watcher went away"));
    // First the state, then the log: all of an ended job's log is there.
    const auto row = context_.store->GetJob(job_id_);
    if (!row.ok()) return End(ToGrpc(row.status(), absl::IsNotFound(row.status()) ? "JOB_NOT_FOUND" : ""));
    OpenLog(row->generation);
    response_.mutable_chunk()->resize(kChunk);
    const ssize_t size = fd_ < 0 ? 0 : read(fd_, response_.mutable_chunk()->data(), kChunk);
    if (size < 0) return End(ToGrpc(absl::InternalError(absl::StrCat("reading the log: ", std::strerror(errno)))));
    if (size > 0) {
      response_.mutable_chunk()->resize(size);
      writing_ = true;
      StartWrite(&response_);
    } else if (!follow_ || core::IsEnded(row->state)) {
      End(grpc::Status::OK);
    } else if (!polling_) {
      polling_ = true;
      context_.timers->Schedule(kPoll, [weak = weak_from_this()] {
        auto self = weak.lock();
        if (self == nullptr) return;
        {
          const std::lock_guard again(self->mutex_);
          self->polling_ = false;
        }
        self->Pump();
      });
    }
  }

  // The newest generation's log, once it is there.
  void OpenLog(int64_t generation) {
    if (fd_ >= 0 && generation == generation_) return;
    const std::string path = context_.coordinator->RunDir(job_id_, generation) + "/output.log";
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
    generation_ = generation;
  }

  void End(const grpc::Status& status) {
    finished_ = true;
    if (context_.on_call) context_.on_call("WatchLogs", CodeName(status.error_code()));
    Finish(status);
  }

  const ServiceContext& context_;
  const std::string job_id_;
  const bool follow_;
  std::shared_ptr<WatchLogsReactor> self_;

  std::mutex mutex_;
  int fd_ = -1;
  int64_t generation_ = 0;
  v1::WatchLogsResponse response_;
  bool writing_ = false;
  bool finished_ = false;
  bool cancelled_ = false;
  bool polling_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchLogsResponse>* StartWatchLogs(const ServiceContext& context,
                                                                const v1::WatchLogsRequest& request) {
  auto reactor = std::make_shared<WatchLogsReactor>(context, request);
  reactor->Begin();
  return reactor.get();
}

}  // namespace lockstep::rpc
