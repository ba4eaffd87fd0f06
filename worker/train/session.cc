// SPDX-License-Identifier: Apache-2.0
// Two threads: one reads what the coordinator sends, one writes what the trainer has queued. The
// trainer itself only takes a short lock, and on its usual path (AwaitLease with a lease in hand) none.
#include "worker/train/session.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/worker_service.grpc.pb.h"

namespace lockstep {

namespace {

using v1::SessionRequest;
using v1::SessionResponse;

// A lease covers some seconds of work: each is twice the one before until a request takes this long
// to use up.
constexpr int64_t kFirstLeaseSteps = 256;
constexpr int64_t kMaxLeaseSteps = 1 << 20;
constexpr std::chrono::seconds kLeaseSpan{4};

class Session final : public GrpcSession {
 public:
  Session(const std::string& address, std::function<void(const std::string&)> on_lost) : on_lost_(std::move(on_lost)) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ =
        v1::WorkerService::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  ~Session() override {
    context_.TryCancel();
    StopWriter();
    if (writer_.joinable()) writer_.join();
    if (reader_.joinable()) reader_.join();
  }

  absl::Status Start(v1::Hello hello, std::chrono::milliseconds timeout) {
    generation_ = hello.generation();
    rank_ = hello.rank();
    context_.set_wait_for_ready(true);
    stream_ = stub_->Session(&context_);
    SessionRequest first;
    *first.mutable_hello() = std::move(hello);
    Report(std::move(first));
    writer_ = std::thread([this] { WriteLoop(); });
    reader_ = std::thread([this] { ReadLoop(); });
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [this] { return welcomed_ || ended_; })) {
      return absl::UnavailableError("the coordinator did not answer; is it running, and is the address right?");
    }
    if (!welcomed_) return absl::UnavailableError(absl::StrCat("the coordinator refused the session: ", end_reason_));
    return absl::OkStatus();
  }

  const v1::Welcome& welcome() const override { return welcome_; }

  absl::Status AwaitLease(int64_t step) override {
    // Half of the newest lease is used up: ask for the next one while the rest is worked off.
    if (step >= ask_at_.load(std::memory_order_relaxed)) AskAhead(step);
    if (step < leased_end_.load(std::memory_order_acquire)) return absl::OkStatus();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || step < leased_end_.load(std::memory_order_relaxed); });
    if (step < leased_end_.load(std::memory_order_relaxed)) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("the session ended: ", end_reason_));
  }

  StopRequest stop_request() const override { return stop_.load(std::memory_order_relaxed); }

  void Report(SessionRequest report) override {
    std::lock_guard lock(mutex_);
    outbox_.push_back(std::move(report));
    changed_.notify_all();
  }

  void Close(v1::Goodbye goodbye, std::chrono::milliseconds timeout) override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    SessionRequest last;
    *last.mutable_goodbye() = std::move(goodbye);
    Report(std::move(last));
    StopWriter();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [this] { return ended_; });
  }

 private:
  void AskAhead(int64_t step) {
    const auto now = std::chrono::steady_clock::now();
    if (asked_before_ && now - last_ask_ < kLeaseSpan) ask_steps_ = std::min(ask_steps_ * 2, kMaxLeaseSteps);
    asked_before_ = true;
    last_ask_ = now;
    // The answer moves it back.
    ask_at_.store(INT64_MAX, std::memory_order_relaxed);
    SessionRequest request;
    request.mutable_lease_request()->set_generation(generation_);
    request.mutable_lease_request()->set_steps(
        std::max<int64_t>(ask_steps_, step + 1 - leased_end_.load(std::memory_order_relaxed)));
    Report(std::move(request));
  }

  void Take(const SessionResponse& response) {
    std::lock_guard lock(mutex_);
    switch (response.kind_case()) {
      case SessionResponse::kWelcome:
        welcome_ = response.welcome();
        leased_end_.store(welcome_.first_step());
        ask_at_.store(welcome_.first_step());
        welcomed_ = true;
        break;
      case SessionResponse::kLease: {
        const v1::Lease& lease = response.lease();
        if (lease.generation() != generation_ || lease.rank() != rank_) break;
        leased_end_.store(lease.end_step(), std::memory_order_release);
        // Nothing left to ask for after the last step.
        const bool last = lease.end_step() >= welcome_.total_steps();
        ask_at_.store(last ? INT64_MAX : lease.first_step() + (lease.end_step() - lease.first_step()) / 2);
        break;
      }
      case SessionResponse::kStop:
        stop_.store(response.stop().checkpoint() ? StopRequest::kStopWithCheckpoint : StopRequest::kStop);
        break;
      case SessionResponse::KIND_NOT_SET:
        break;
    }
    changed_.notify_all();
  }

  void ReadLoop() {
    SessionResponse response;
    while (stream_->Read(&response)) Take(response);
    StopWriter();
    writer_done_.wait(false);
    const grpc::Status status = stream_->Finish();
    bool lost = false;
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
      end_reason_ = status.ok() ? "the coordinator closed the stream" : status.error_message();
      lost = !closing_ && welcomed_;
      changed_.notify_all();
    }
    if (lost && on_lost_) on_lost_(end_reason_);
  }

  void WriteLoop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !outbox_.empty() || stop_writer_; });
      if (outbox_.empty()) break;
      const SessionRequest request = std::move(outbox_.front());
      outbox_.pop_front();
      lock.unlock();
      const bool written = stream_->Write(request);
      lock.lock();
      if (!written) break;
    }
    lock.unlock();
    stream_->WritesDone();
    writer_done_.store(true);
    writer_done_.notify_all();
  }

  // The writer ends once its queue is empty.
  void StopWriter() {
    std::lock_guard lock(mutex_);
    stop_writer_ = true;
    changed_.notify_all();
  }

  std::function<void(const std::string&)> on_lost_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<SessionRequest, SessionResponse>> stream_;
  int64_t generation_ = 0;
  int rank_ = 0;
  v1::Welcome welcome_;

  std::atomic<int64_t> leased_end_{0};
  std::atomic<int64_t> ask_at_{INT64_MAX};
  std::atomic<StopRequest> stop_{StopRequest::kNone};
  // The trainer's thread only.
  int64_t ask_steps_ = kFirstLeaseSteps;
  bool asked_before_ = false;
  std::chrono::steady_clock::time_point last_ask_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SessionRequest> outbox_;
  bool welcomed_ = false;
  bool ended_ = false;
  bool closing_ = false;
  bool stop_writer_ = false;
  std::string end_reason_;
  std::atomic<bool> writer_done_{false};
  std::thread writer_;
  std::thread reader_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcSession>> GrpcSession::Connect(const std::string& address, v1::Hello hello,
                                                                  std::chrono::milliseconds timeout,
                                                                  std::function<void(const std::string&)> on_lost) {
  auto session = std::make_unique<Session>(address, std::move(on_lost));
  if (absl::Status s = session->Start(std::move(hello), timeout); !s.ok()) return s;
  return session;
}

}  // namespace lockstep
