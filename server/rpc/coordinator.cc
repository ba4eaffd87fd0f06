// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/coordinator.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <iterator>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "server/launch/run_dir.h"
#include "server/rpc/convert.h"
#include "spdlog/spdlog.h"

namespace lockstep::rpc {
namespace {

// How many inputs share one transaction at most, and how long a failed one waits.
constexpr size_t kMaxGroup = 512;
constexpr std::chrono::milliseconds kRetry{250};

std::string RandomSuffix() {
  static constexpr char kDigits[] = "abcdefghijkmnpqrstuvwxyz23456789";
  std::random_device random;
  std::string suffix;
  for (int i = 0; i < 6; ++i) suffix += kDigits[random() % (sizeof(kDigits) - 1)];
  return suffix;
}

std::string Fingerprint(const lockstep::v1::JobSpec& spec) {
  const std::string bytes = ToJson(spec);
  return FastDigest(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, store::Store* store, launch::Launcher* launcher,
                         TimerQueue* timers, EventHub* hub, const Clock* clock, Observer observer)
    : options_(std::move(options)),
      store_(store),
      launcher_(launcher),
      timers_(timers),
      hub_(hub),
      clock_(clock),
      observer_(std::move(observer)),
      state_(options_.slots),
      files_(options_.state_dir + "/jobs", store) {}

Coordinator::~Coordinator() { Stop(); }

std::string Coordinator::RunDir(const std::string& job_id, int64_t generation) const {
  return absl::StrCat(options_.state_dir, "/jobs/", job_id, "/run/", generation);
}

absl::Status Coordinator::Start() {
  Round round;
  LOCKSTEP_ASSIGN_OR_RETURN(last_order_, store_->LastOrder());
  LOCKSTEP_RETURN_IF_ERROR(Recover(round));
  StageUpdates(round);
  LOCKSTEP_RETURN_IF_ERROR(store_->Write(round.changes));
  Publish(round);
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

absl::Status Coordinator::Recover(Round& round) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<core::Job> jobs, store_->LiveJobs());
  // Ending a group takes up to some seconds; all at the same time.
  std::vector<std::future<absl::Status>> endings;
  for (const core::Job& job : jobs) {
    if (!core::IsActive(job.state)) continue;
    endings.push_back(std::async(std::launch::async, &launch::KillStaleGroup, RunDir(job.id, job.generation)));
  }
  for (auto& ending : endings) {
    if (absl::Status status = ending.get(); !status.ok()) spdlog::error("{}", std::string(status.message()));
  }
  Input none;
  for (core::Job& job : jobs) {
    LOCKSTEP_ASSIGN_OR_RETURN(const store::JobRow row, store_->GetJob(job.id));
    LOCKSTEP_ASSIGN_OR_RETURN(lockstep::v1::Job stored, ToProto(row));
    auto spec = std::make_shared<const lockstep::v1::JobSpec>(std::move(*stored.mutable_spec()));
    stored.clear_spec();
    live_[job.id] = Live{std::move(stored), std::move(spec), row.last_sequence};
    if (absl::Status status = files_.Rebuild(job.id); !status.ok()) spdlog::warn("{}", std::string(status.message()));
    // A checkpoint whose folder is gone is no place to go on from.
    std::erase_if(job.checkpoints, [](const auto& entry) {
      std::error_code ignored;
      return !std::filesystem::exists(entry.second, ignored);
    });
    const core::Outcome outcome = core::Apply(state_, core::JobRecovered{std::move(job)}, options_.limits);
    for (const core::Effect& effect : outcome.effects) Stage(effect, none, round);
  }
  for (const core::Effect& effect : core::StartQueued(state_, options_.limits).effects) Stage(effect, none, round);
  return absl::OkStatus();
}

void Coordinator::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Coordinator::Submit(Submission submission, Answer answer) {
  core::JobSubmitted event{absl::StrCat(submission.spec.name(), "-", RandomSuffix()), 0, submission.shape};
  Post({std::move(event), {}, nullptr, std::move(submission), std::move(answer)});
}

void Coordinator::Cancel(const std::string& job_id, const std::string& reason, Answer answer) {
  Post({core::CancelAsked{job_id, reason}, {}, nullptr, std::nullopt, std::move(answer)});
}

void Coordinator::Deliver(core::Event event, lockstep::v1::SessionRequest report,
                          std::shared_ptr<WorkerSession> session, Answer answer) {
  Post({std::move(event), std::move(report), std::move(session), std::nullopt, std::move(answer)});
}

void Coordinator::Drain(std::function<void()> drained) {
  {
    const std::lock_guard lock(mutex_);
    drained_ = std::move(drained);
  }
  Post({core::DrainAsked{}, {}, nullptr, std::nullopt, nullptr});
}

void Coordinator::Post(Input input) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      inbox_.push_back(std::move(input));
      changed_.notify_all();
      return;
    }
  }
  if (input.answer) input.answer(absl::UnavailableError("the coordinator is stopping"), "");
}

void Coordinator::Run() {
  while (true) {
    std::vector<Input> inputs;
    bool stopping;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !inbox_.empty() || stopping_; });
      stopping = stopping_;
      const size_t count = stopping ? inbox_.size() : std::min(inbox_.size(), kMaxGroup);
      std::move(inbox_.begin(), inbox_.begin() + count, std::back_inserter(inputs));
      inbox_.erase(inbox_.begin(), inbox_.begin() + count);
    }
    if (stopping) {
      for (Input& input : inputs) {
        if (input.answer) input.answer(absl::UnavailableError("the coordinator is stopping"), "");
      }
      sessions_.clear();
      return;
    }
    Process(std::move(inputs));
  }
}

void Coordinator::Process(std::vector<Input> inputs) {
  Round round;
  state_.Mark();
  undo_live_.clear();
  const int64_t last_order = last_order_;
  std::vector<std::pair<absl::Status, std::string>> answers(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    answers[i].first = Accept(inputs[i], round, &answers[i].second);
  }
  StageUpdates(round);
  if (absl::Status status = store_->Write(round.changes); !status.ok()) {
    spdlog::error("cannot store: {}", std::string(status.message()));
    last_order_ = last_order;
    Undo();
    Refuse(std::move(inputs), status);
    return;
  }
  Publish(round);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].answer) inputs[i].answer(answers[i].first, answers[i].second);
  }
}

absl::Status Coordinator::Accept(Input& input, Round& round, std::string* job_id) {
  if (input.submission.has_value()) {
    auto& event = std::get<core::JobSubmitted>(input.event);
    *job_id = event.job;
    bool repeated = false;
    LOCKSTEP_RETURN_IF_ERROR(StageRequestId(input, round, job_id, &repeated));
    if (repeated) return absl::OkStatus();
    event.order = ++last_order_;
  } else if (const auto* cancel = std::get_if<core::CancelAsked>(&input.event)) {
    *job_id = cancel->job;
  }
  const core::Outcome outcome = core::Apply(state_, input.event, options_.limits);
  for (const core::Effect& effect : outcome.effects) Stage(effect, input, round);
  if (const auto* ended = std::get_if<core::SessionEnded>(&input.event)) {
    round.actions.push_back(
        [this, key = SessionKey(ended->job, ended->generation, ended->rank)] { sessions_.erase(key); });
  }
  if (outcome.status.ok() && input.submission.has_value() && !input.submission->request_id.empty()) {
    const store::RequestRow row{Fingerprint(input.submission->spec), *job_id};
    round.request_ids[input.submission->request_id] = row;
    round.changes.push_back(store::InsertRequestId{input.submission->request_id, row.fingerprint, row.job_id});
  }
  return outcome.status;
}

absl::Status Coordinator::StageRequestId(Input& input, Round& round, std::string* job_id, bool* repeated) {
  const std::string& request_id = input.submission->request_id;
  if (request_id.empty()) return absl::OkStatus();
  std::optional<store::RequestRow> known;
  if (const auto it = round.request_ids.find(request_id); it != round.request_ids.end()) {
    known = it->second;
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(known, store_->FindRequest(request_id));
  }
  if (!known.has_value()) return absl::OkStatus();
  if (known->fingerprint != Fingerprint(input.submission->spec)) {
    return absl::InvalidArgumentError(absl::StrCat("request_id ", request_id, " was used for another spec (job ",
                                                   known->job_id, "): choose a new one"));
  }
  *job_id = known->job_id;
  *repeated = true;
  return absl::OkStatus();
}

void Coordinator::Undo() {
  state_.Rollback();
  for (auto& [job_id, before] : std::exchange(undo_live_, {})) {
    if (before.has_value()) {
      live_[job_id] = std::move(*before);
    } else {
      live_.erase(job_id);
    }
  }
}

void Coordinator::Refuse(std::vector<Input> inputs, const absl::Status& cause) {
  // People can try again; what has happened cannot be refused, so it waits for the disk.
  std::vector<Input> again;
  for (Input& input : inputs) {
    if (input.submission.has_value() || std::holds_alternative<core::CancelAsked>(input.event)) {
      if (input.answer) input.answer(cause, "");
    } else {
      again.push_back(std::move(input));
    }
  }
  if (again.empty()) return;
  std::unique_lock lock(mutex_);
  inbox_.insert(inbox_.begin(), std::make_move_iterator(again.begin()), std::make_move_iterator(again.end()));
  changed_.wait_for(lock, kRetry, [this] { return stopping_; });
}

void Coordinator::Publish(Round& round) {
  std::set<std::string> jobs;
  for (const auto& [job_id, event] : round.events) {
    files_.Append(job_id, event);
    if (observer_) observer_(job_id, event);
    jobs.insert(job_id);
  }
  for (const auto& action : round.actions) action();
  for (const std::string& job_id : jobs) hub_->Notify(job_id);
}

}  // namespace lockstep::rpc
