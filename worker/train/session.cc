// SPDX-License-Identifier: Apache-2.0
// Two threads: one opens streams and reads what the coordinator sends, one writes heartbeats, lease
// requests and the spool of reports. The trainer itself only takes a short lock, and on its usual path
// (AwaitLease with a lease in hand) none.
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

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;
using v1::SessionRequest;
using v1::SessionResponse;
using Stream = grpc::ClientReaderWriter<SessionRequest, SessionResponse>;

constexpr int64_t kFirstLeaseSteps = 1024;
constexpr int64_t kMaxLeaseSteps = int64_t{1} << 24;
// A lease covers so many seconds of work, and the next one is asked for when a quarter is used up: so the
// coordinator may be away for minutes without a step waiting for it.
constexpr double kLeaseSeconds = 240;
constexpr milliseconds kHeartbeat{500};
constexpr milliseconds kReconnectPause{50};
// A coordinator that is away for longer is taken for gone.
constexpr std::chrono::hours kOrphanLimit{1};

bool IsFinal(grpc::StatusCode code) {
  return code == grpc::StatusCode::FAILED_PRECONDITION || code == grpc::StatusCode::NOT_FOUND ||
         code == grpc::StatusCode::INVALID_ARGUMENT || code == grpc::StatusCode::ALREADY_EXISTS ||
         code == grpc::StatusCode::UNIMPLEMENTED || code == grpc::StatusCode::PERMISSION_DENIED;
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 300);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class Session final : public GrpcSession {
 public:
  Session(const std::string& address, std::function<void(const std::string&)> on_lost)
      : on_lost_(std::move(on_lost)), stub_(v1::WorkerService::NewStub(OpenChannel(address))) {}

  ~Session() override {
    {
      std::lock_guard lock(mutex_);
      quit_ = true;
      if (context_ != nullptr) context_->TryCancel();
      changed_.notify_all();
    }
    if (writer_.joinable()) writer_.join();
    if (reader_.joinable()) reader_.join();
  }

  absl::Status Start(v1::Hello hello, milliseconds timeout) {
    hello_ = std::move(hello);
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
    // A part of the newest lease is used up: ask for the next one while the rest is worked off.
    if (step >= ask_at_.load(std::memory_order_relaxed)) AskAhead(step);
    if (step < leased_end_.load(std::memory_order_acquire)) return absl::OkStatus();
    std::unique_lock lock(mutex_);
    const auto phase = progress_.phase.exchange(v1::Heartbeat::PHASE_LEASE);
    changed_.wait(lock, [&] { return ended_ || step < leased_end_.load(std::memory_order_relaxed); });
    progress_.phase.store(phase);
    if (step < leased_end_.load(std::memory_order_relaxed)) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("the session ended: ", end_reason_));
  }

  void set_device(std::string description) override {
    const std::lock_guard lock(mutex_);
    hello_.set_device(std::move(description));
  }

  StopRequest stop_request() const override { return stop_.load(std::memory_order_relaxed); }
  void AskToStop(StopRequest request) override { stop_.store(request); }
  int64_t acknowledged() const override { return acknowledged_.load(std::memory_order_relaxed); }
  Progress& progress() override { return progress_; }

  bool WithdrawSnapshot(int64_t report) override {
    const std::lock_guard lock(mutex_);
    if (spool_.empty() || report < next_to_send_ || report < spool_.front().report()) return false;
    spool_[report - spool_.front().report()].mutable_commit_steps()->set_snapshot(false);
    return true;
  }

  bool AwaitStored(int64_t report, milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return ended_ || acknowledged() >= report; });
    return acknowledged() >= report;
  }

  int64_t Report(SessionRequest report) override {
    std::lock_guard lock(mutex_);
    report.set_report(++last_report_);
    spool_.push_back(std::move(report));
    changed_.notify_all();
    return last_report_;
  }

  void GiveGroupId(std::string id) override {
    const std::lock_guard lock(mutex_);
    group_id_ = std::move(id);
    group_id_to_send_ = true;
    changed_.notify_all();
  }

  absl::StatusOr<std::string> AwaitGroupId(milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    wants_group_id_ = group_id_to_send_ = group_id_.empty();
    changed_.notify_all();
    changed_.wait_for(lock, timeout, [this] { return ended_ || !group_id_.empty(); });
    wants_group_id_ = false;
    if (!group_id_.empty()) return group_id_;
    if (ended_) return absl::AbortedError(absl::StrCat("the session ended: ", end_reason_));
    return absl::DeadlineExceededError(absl::StrCat("rank 0 gave the group no id within ", timeout.count() / 1000.0,
                                                    " s, so its GPUs cannot meet: rank 0's log says what it was at"));
  }

  void Close(v1::Goodbye goodbye, milliseconds timeout) override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    SessionRequest last;
    *last.mutable_goodbye() = std::move(goodbye);
    Report(std::move(last));
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [this] { return ended_ || spool_.empty(); });
  }

 private:
  void AskAhead(int64_t step) {
    const double seconds = std::chrono::duration<double>(SteadyClock::now() - first_ask_).count();
    double steps = kFirstLeaseSteps;
    if (!asked_before_) {
      first_ask_ = SteadyClock::now();
      first_ask_step_ = step;
    } else if (seconds > 0) {
      steps = std::max(steps, static_cast<double>(step - first_ask_step_) / seconds * kLeaseSeconds);
    }
    asked_before_ = true;
    // The answer moves it back.
    ask_at_.store(INT64_MAX, std::memory_order_relaxed);
    std::lock_guard lock(mutex_);
    wanted_steps_ = static_cast<int64_t>(std::min(steps, static_cast<double>(kMaxLeaseSteps)));
    lease_to_send_ = true;
    changed_.notify_all();
  }

  // Holds mutex_.
  void TakeWelcome(const v1::Welcome& welcome) {
    if (!welcomed_) {
      welcome_ = welcome;
      leased_end_.store(welcome.first_step());
      ask_at_.store(welcome.first_step());
      welcomed_ = true;
    }
    TakeAck(welcome.last_report());
    next_to_send_ = welcome.last_report() + 1;
    // What was asked for on an earlier stream may be lost.
    lease_to_send_ = wanted_steps_ > 0;
    // The coordinator may be another one, which was never told.
    group_id_to_send_ = wants_group_id_ || (hello_.rank() == 0 && !group_id_.empty());
    connected_ = true;
    ++welcomes_;
  }

  // Holds mutex_.
  void TakeAck(int64_t report) {
    while (!spool_.empty() && spool_.front().report() <= report) spool_.pop_front();
    if (report > acknowledged_.load(std::memory_order_relaxed)) acknowledged_.store(report);
  }

  // Holds mutex_.
  void TakeLease(const v1::Lease& lease) {
    if (lease.generation() != hello_.generation() || lease.rank() != hello_.rank()) return;
    leased_end_.store(std::max(leased_end_.load(), lease.end_step()), std::memory_order_release);
    wanted_steps_ = 0;
    // Nothing left to ask for after the last step.
    const bool last = lease.end_step() >= welcome_.total_steps();
    ask_at_.store(last ? INT64_MAX : lease.first_step() + (lease.end_step() - lease.first_step()) / 4);
  }

  void Take(const SessionResponse& response) {
    std::lock_guard lock(mutex_);
    switch (response.kind_case()) {
      case SessionResponse::kWelcome:
        TakeWelcome(response.welcome());
        break;
      case SessionResponse::kLease:
        TakeLease(response.lease());
        break;
      case SessionResponse::kAck:
        TakeAck(response.ack().report());
        break;
      case SessionResponse::kStop:
        stop_.store(response.stop().checkpoint() ? StopRequest::kStopWithCheckpoint : StopRequest::kStop);
        break;
      case SessionResponse::kGroupId:
        if (response.group_id().generation() == hello_.generation()) group_id_ = response.group_id().id();
        break;
      case SessionResponse::KIND_NOT_SET:
        break;
    }
    changed_.notify_all();
  }

  // One stream from its hello to its end; its status.
  grpc::Status RunStream() {
    SessionRequest first;
    {
      const std::lock_guard lock(mutex_);
      if (quit_) return grpc::Status::CANCELLED;
      context_ = std::make_unique<grpc::ClientContext>();
      context_->set_wait_for_ready(true);
      hello_.set_session(hello_.session() + 1);
      hello_.set_leased_end(welcomed_ ? leased_end_.load() : 0);
      *first.mutable_hello() = hello_;
    }
    // Without the lock: it waits until somebody answers, and the trainer must not.
    auto stream = stub_->Session(context_.get());
    {
      const std::lock_guard lock(mutex_);
      stream_ = std::move(stream);
    }
    stream_->Write(first);
    SessionResponse response;
    while (stream_->Read(&response)) Take(response);
    {
      // A write in flight fails by itself. Cancelling it here could hide the status behind CANCELLED.
      std::unique_lock lock(mutex_);
      connected_ = false;
      changed_.wait(lock, [this] { return !writing_; });
    }
    return stream_->Finish();
  }

  void ReadLoop() {
    while (true) {
      const int64_t welcomes = welcomes_;
      const auto began = SteadyClock::now();
      const grpc::Status status = RunStream();
      std::unique_lock lock(mutex_);
      if (welcomes_ > welcomes) {
        away_since_ = SteadyClock::now();
      } else if (welcomes_ == 0 && away_since_ == SteadyClock::time_point()) {
        away_since_ = began;
      }
      const bool done = quit_ || (closing_ && spool_.empty());
      const bool orphan = SteadyClock::now() - away_since_ > kOrphanLimit;
      if (!done && !orphan && !IsFinal(status.error_code())) {
        changed_.wait_for(lock, kReconnectPause, [this] { return quit_; });
        continue;
      }
      ended_ = true;
      end_reason_ = status.ok() ? "the coordinator closed the stream" : status.error_message();
      const bool lost = !done && welcomed_;
      changed_.notify_all();
      lock.unlock();
      if (lost && on_lost_) on_lost_(end_reason_);
      return;
    }
  }

  // The next thing to write. Holds mutex_. False: there is nothing.
  bool Next(SessionRequest* request) {
    if (!connected_) return false;
    request->Clear();
    if (SteadyClock::now() >= next_heartbeat_) {
      next_heartbeat_ = SteadyClock::now() + kHeartbeat;
      v1::Heartbeat& heartbeat = *request->mutable_heartbeat();
      heartbeat.set_generation(hello_.generation());
      heartbeat.set_progress(progress_.count.load(std::memory_order_relaxed));
      heartbeat.set_phase(progress_.phase.load(std::memory_order_relaxed));
      heartbeat.set_step_seconds(progress_.step_seconds.load(std::memory_order_relaxed));
      return true;
    }
    if (std::exchange(lease_to_send_, false)) {
      request->mutable_lease_request()->set_generation(hello_.generation());
      request->mutable_lease_request()->set_steps(wanted_steps_);
      return true;
    }
    if (std::exchange(group_id_to_send_, false)) {
      if (wants_group_id_) {
        request->mutable_group_id_request()->set_generation(hello_.generation());
      } else {
        request->mutable_group_id()->set_generation(hello_.generation());
        request->mutable_group_id()->set_id(group_id_);
      }
      return true;
    }
    if (spool_.empty() || next_to_send_ > spool_.back().report()) return false;
    *request = spool_[next_to_send_ - spool_.front().report()];
    ++next_to_send_;
    return true;
  }

  void WriteLoop() {
    std::unique_lock lock(mutex_);
    SessionRequest request;
    while (!quit_ && !ended_) {
      if (!Next(&request)) {
        changed_.wait_for(lock, kHeartbeat);
        continue;
      }
      writing_ = true;
      lock.unlock();
      const bool written = stream_->Write(request);
      lock.lock();
      writing_ = false;
      if (!written) connected_ = false;
      changed_.notify_all();
    }
  }

  const std::function<void(const std::string&)> on_lost_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  // Written before the threads start, but for the stream's number and lease (by the reader), and the device.
  v1::Hello hello_;
  v1::Welcome welcome_;

  std::atomic<int64_t> leased_end_{0};
  std::atomic<int64_t> ask_at_{INT64_MAX};
  std::atomic<StopRequest> stop_{StopRequest::kNone};
  std::atomic<int64_t> acknowledged_{0};
  Progress progress_;
  // The trainer's thread only.
  bool asked_before_ = false;
  SteadyClock::time_point first_ask_;
  int64_t first_ask_step_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  // Reports that are not yet acknowledged, in the order of their numbers.
  std::deque<SessionRequest> spool_;
  int64_t last_report_ = 0;
  int64_t next_to_send_ = 1;
  int64_t wanted_steps_ = 0;
  bool lease_to_send_ = false;
  // Of rank 0, given by the trainer; of the others, once it has come.
  std::string group_id_;
  bool wants_group_id_ = false;
  // To be given or asked for on this stream.
  bool group_id_to_send_ = false;
  SteadyClock::time_point next_heartbeat_;
  int64_t welcomes_ = 0;
  SteadyClock::time_point away_since_;
  // The stream is open and welcomed.
  bool connected_ = false;
  bool writing_ = false;
  bool welcomed_ = false;
  bool ended_ = false;
  bool closing_ = false;
  bool quit_ = false;
  std::string end_reason_;
  std::thread writer_;
  std::thread reader_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcSession>> GrpcSession::Connect(const std::string& address, v1::Hello hello,
                                                                  milliseconds timeout,
                                                                  std::function<void(const std::string&)> on_lost) {
  auto session = std::make_unique<Session>(address, std::move(on_lost));
  if (absl::Status s = session->Start(std::move(hello), timeout); !s.ok()) return s;
  return session;
}

}  // namespace lockstep
