// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/errors.h"
#include "server/rpc/training_service.h"

namespace lockstep::rpc {
namespace {

namespace v1 = lockstep::v1;

// Events held for one watcher at a time; the rest waits in the store.
constexpr int kBuffer = 128;

class WatchJobReactor final : public grpc::ServerWriteReactor<v1::WatchJobResponse>,
                              public Watcher,
                              public std::enable_shared_from_this<WatchJobReactor> {
 public:
  WatchJobReactor(const ServiceContext& context, const v1::WatchJobRequest& request)
      : context_(context), job_id_(request.job_id()), after_(request.after_sequence()) {}

  void Begin() {
    self_ = shared_from_this();
    context_.hub->Subscribe(job_id_, weak_from_this());
    Beat();
    Pump();
  }

  // Reading the store is not for the coordinator's thread.
  void Wake() override {
    context_.timers->Schedule(std::chrono::milliseconds(0), [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->Pump();
    });
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
  // Writes what is next, unless a write is under way.
  void Pump() {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    if (cancelled_) return End(grpc::Status(grpc::StatusCode::CANCELLED, "the watcher went away"));
    if (buffer_.empty()) {
      if (grpc::Status status = Fill(); !status.ok()) return End(status);
    }
    if (!buffer_.empty()) {
      Write(std::move(buffer_.front()));
      buffer_.pop_front();
    } else if (ended_) {
      End(grpc::Status::OK);
    }
  }

  grpc::Status Fill() {
    // First the state, then the events: an end that is seen here is also among the events.
    const auto row = context_.store->GetJob(job_id_);
    if (!row.ok()) return ToGrpc(row.status(), absl::IsNotFound(row.status()) ? "JOB_NOT_FOUND" : "");
    if (after_ < 0 || after_ > row->last_sequence) {
      return ToGrpc(absl::OutOfRangeError(
          absl::StrCat("after_sequence ", after_, " is not in 0..", row->last_sequence, ", the job's newest event")));
    }
    const auto events = context_.store->Events(job_id_, after_, kBuffer);
    if (!events.ok()) return ToGrpc(events.status());
    for (const store::EventRow& event : *events) {
      v1::WatchJobResponse response;
      if (!response.mutable_event()->ParseFromString(event.body)) {
        return ToGrpc(absl::DataLossError(absl::StrCat("event ", event.sequence, " of ", job_id_, " is damaged")));
      }
      after_ = event.sequence;
      buffer_.push_back(std::move(response));
    }
    ended_ = core::IsEnded(row->state);
    return grpc::Status::OK;
  }

  void Write(v1::WatchJobResponse response) {
    response_ = std::move(response);
    writing_ = true;
    quiet_ = false;
    StartWrite(&response_);
  }

  void End(const grpc::Status& status) {
    finished_ = true;
    if (context_.on_call) context_.on_call("WatchJob", CodeName(status.error_code()));
    Finish(status);
  }

  // Once per interval; writes a heartbeat where nothing was written since the last one.
  void Beat() {
    context_.timers->Schedule(context_.heartbeat, [weak = weak_from_this()] {
      auto self = weak.lock();
      if (self == nullptr) return;
      {
        const std::lock_guard lock(self->mutex_);
        if (self->finished_) return;
        if (self->quiet_ && !self->writing_) self->Write({});
        self->quiet_ = true;
      }
      self->Beat();
    });
  }

  const ServiceContext& context_;
  const std::string job_id_;
  std::shared_ptr<WatchJobReactor> self_;

  std::mutex mutex_;
  int64_t after_;
  std::deque<v1::WatchJobResponse> buffer_;
  v1::WatchJobResponse response_;
  bool writing_ = false;
  bool finished_ = false;
  bool cancelled_ = false;
  bool ended_ = false;
  bool quiet_ = true;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchJobResponse>* StartWatchJob(const ServiceContext& context,
                                                              const v1::WatchJobRequest& request) {
  auto reactor = std::make_shared<WatchJobReactor>(context, request);
  reactor->Begin();
  return reactor.get();
}

}  // namespace lockstep::rpc
