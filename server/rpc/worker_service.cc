// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/worker_service.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/launch/process.h"
#include "server/rpc/convert.h"
#include "server/rpc/errors.h"

namespace lockstep::rpc {
namespace {

namespace v1 = lockstep::v1;

constexpr int kMaxWaiting = 4096;

// After the hello, so many messages may wait to be stored before the next one is read: enough to go on
// through a full disk, not enough for a worker to flood the coordinator. Writes wait in a queue that the
// leases, stops and acknowledgements of one rank keep short.
class SessionReactor final : public grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>,
                             public WorkerSession,
                             public std::enable_shared_from_this<SessionReactor> {
 public:
  explicit SessionReactor(const ServiceContext& context) : context_(context) {}

  void Begin() {
    self_ = shared_from_this();
    StartRead(&request_);
  }

  void Send(v1::SessionResponse response) override {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    outbox_.push_back(std::move(response));
    Push();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return EndOnceAnswered();
    const bool is_hello = !from_.has_value();
    absl::StatusOr<core::Event> event = absl::InvalidArgumentError("the first message must be a hello");
    if (!is_hello) {
      event = ToEvent(request_, *from_);
    } else if (request_.has_hello()) {
      event = ToEvent(request_.hello());
    }
    if (!event.ok()) return End(event.status());
    const bool is_goodbye = request_.has_goodbye();
    v1::SessionRequest report;
    report.Swap(&request_);
    if (is_hello) hello_ = report.hello();
    bool read_on = false;
    {
      const std::lock_guard lock(mutex_);
      read_on = ++waiting_ < kMaxWaiting && !is_hello && !is_goodbye;
      paused_ = !read_on;
    }
    context_.coordinator->Deliver(
        *event, std::move(report), is_hello ? shared_from_this() : nullptr,
        [self = shared_from_this(), is_hello, is_goodbye](const absl::Status& status, const std::string&) {
          self->Answered(status, is_hello, is_goodbye);
        });
    const std::lock_guard lock(mutex_);
    if (read_on && !ending_) StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) outbox_.clear();
    Push();
  }

  void OnCancel() override { End(absl::CancelledError("the worker went away")); }

  void OnDone() override {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
      if (welcomed_) ReportEnd();
    }
    self_.reset();
  }

 private:
  // On the coordinator's thread, when the message is stored or refused.
  void Answered(const absl::Status& status, bool is_hello, bool is_goodbye) {
    if (status.ok() && is_hello) {
      const std::lock_guard lock(mutex_);
      welcomed_ = true;
      from_ =
          core::FromWorker{hello_.job_id(), hello_.generation(), hello_.rank(), std::max<int64_t>(1, hello_.session())};
      // The stream may be over before its hello was stored.
      if (done_) ReportEnd();
    }
    if (!status.ok() || is_goodbye) {
      if (!status.ok()) {
        const std::lock_guard lock(mutex_);
        if (!ending_) refusal_ = std::string(status.message());
      }
      return End(status);
    }
    std::unique_lock lock(mutex_);
    --waiting_;
    if (std::exchange(paused_, false) && !ending_) StartRead(&request_);
    if (!half_closed_ || waiting_ > 0) return;
    lock.unlock();
    End(absl::OkStatus());
  }

  // The worker says nothing more. What it said may still be refused, and it is to hear of that.
  void EndOnceAnswered() {
    {
      const std::lock_guard lock(mutex_);
      half_closed_ = true;
      if (waiting_ > 0) return;
    }
    End(absl::OkStatus());
  }

  // Holds mutex_.
  void ReportEnd() {
    core::SessionEnded ended;
    static_cast<core::FromWorker&>(ended) = *from_;
    ended.refusal = refusal_;
    // The pid means something only where the worker runs beside this process.
    ended.process_gone = launch::IsGoneFrom(hello_.host(), hello_.pid());
    context_.coordinator->Deliver(ended, {}, nullptr, nullptr);
  }

  // Writes the next message, or finishes once all are written. Holds mutex_.
  void Push() {
    if (writing_ || finished_) return;
    if (!outbox_.empty()) {
      response_ = std::move(outbox_.front());
      outbox_.pop_front();
      writing_ = true;
      StartWrite(&response_);
    } else if (ending_) {
      finished_ = true;
      if (context_.on_call) context_.on_call("Session", CodeName(end_status_.error_code()));
      Finish(end_status_);
    }
  }

  void End(const absl::Status& status) {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    ending_ = true;
    end_status_ = ToGrpc(status);
    Push();
  }

  const ServiceContext& context_;
  std::shared_ptr<SessionReactor> self_;
  v1::SessionRequest request_;
  v1::Hello hello_;
  // Set once, before the second read.
  std::optional<core::FromWorker> from_;

  std::mutex mutex_;
  std::deque<v1::SessionResponse> outbox_;
  v1::SessionResponse response_;
  std::string refusal_;
  grpc::Status end_status_;
  bool welcomed_ = false;
  // Messages that are not answered yet; whether reading waits for one of them.
  int waiting_ = 0;
  bool paused_ = false;
  bool half_closed_ = false;
  bool writing_ = false;
  bool ending_ = false;
  bool finished_ = false;
  bool done_ = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* WorkerServiceImpl::Session(
    grpc::CallbackServerContext*) {
  auto reactor = std::make_shared<SessionReactor>(context_);
  reactor->Begin();
  return reactor.get();
}

}  // namespace lockstep::rpc
