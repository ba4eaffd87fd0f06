// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/coordinator.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "server/launch/process.h"
#include "server/launch/run_dir.h"
#include "server/rpc/convert.h"

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

void Coordinator::ForgetMissing(core::Job& job) const {
  const auto missing = [](const std::string& path) {
    std::error_code ignored;
    return path.empty() || !std::filesystem::exists(path, ignored);
  };
  std::erase_if(job.checkpoints, [&](const auto& entry) { return missing(entry.second); });
  std::erase_if(job.snapshots,
                [&](const auto& entry) { return missing(launcher_->SnapshotPath(job.id, entry.second)); });
}

namespace {

// Ranks that died while no coordinator looked. The others wait for them, and mpirun needs seconds to notice.
void MarkDead(core::Job& job) {
  for (core::Rank& rank : job.ranks) {
    if (!rank.seen || rank.farewell != core::Farewell::kNone) continue;
    if (launch::IsGoneFrom(rank.host, rank.pid)) rank.farewell = core::Farewell::kFailed;
  }
}

}  // namespace

absl::Status Coordinator::Recover(Round& round) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<core::Job> jobs, store_->LiveJobs());
  std::map<std::string, int64_t> active;
  Input none;
  for (core::Job& job : jobs) {
    const std::string job_id = job.id;
    LOCKSTEP_ASSIGN_OR_RETURN(const store::JobRow row, store_->GetJob(job_id));
    LOCKSTEP_ASSIGN_OR_RETURN(lockstep::v1::Job stored, ToProto(row));
    auto spec = std::make_shared<const lockstep::v1::JobSpec>(std::move(*stored.mutable_spec()));
    stored.clear_spec();
    live_[job_id] = Live{std::move(stored), std::move(spec), row.last_sequence};
    // One that never began has no files to mend.
    if (row.generation > 0) {
      if (absl::Status status = files_.Mend(job_id); !status.ok()) LogWarning(status.ToString());
    }
    ForgetMissing(job);
    MarkDead(job);
    if (core::IsActive(job.state)) active[job_id] = job.generation;
    const core::Outcome outcome = core::Apply(state_, core::JobRecovered{std::move(job)}, options_.limits);
    for (const core::Effect& effect : outcome.effects) Stage(effect, none, round);
  }
  // The janitor: what lies in shared memory for jobs of this store, and belongs to no group that may live.
  launcher_->Sweep([&](const std::string& job_id, int64_t generation) {
    const auto it = active.find(job_id);
    if (it != active.end()) return generation != 0 && generation != it->second;
    // Of a waiting job only the snapshots may be of use: its groups are gone.
    if (live_.contains(job_id)) return generation != 0;
    return store_->GetJob(job_id).ok();
  });
  for (const auto& [job_id, generation] : active) {
    launcher_->Adopt({job_id, generation, state_.Find(job_id)->shape, RunDir(job_id, generation), "", 0},
                     OnExit(job_id, generation));
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
  core::JobSubmitted event{absl::StrCat(submission.spec.name(), "-", RandomSuffix()), 0, submission.shape,
                           submission.start_checkpoint};
  Post({std::move(event), {}, nullptr, std::move(submission), std::move(answer)});
}

void Coordinator::Cancel(const std::string& job_id, const std::string& reason, Answer answer) {
  Post({core::CancelAsked{job_id, reason}, {}, nullptr, std::nullopt, std::move(answer)});
}

void Coordinator::Scale(const std::string& job_id, int workers, Answer answer) {
  Post({core::ScaleAsked{job_id, workers}, {}, nullptr, std::nullopt, std::move(answer)});
}

void Coordinator::Resume(const std::string& job_id, std::optional<int64_t> from_step, Answer answer) {
  core::ResumeAsked event;
  event.job.id = job_id;
  event.from_step = from_step;
  Post({std::move(event), {}, nullptr, std::nullopt, std::move(answer)});
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
    if (!store_failing_) LogError(absl::StrCat("cannot store: ", status.message()));
    store_failing_ = true;
    if (options_.on_store) options_.on_store(true);
    last_order_ = last_order;
    Undo();
    Refuse(std::move(inputs), status);
    return;
  }
  if (!round.changes.empty() && std::exchange(store_failing_, false)) {
    LogInfo("the store works again");
    if (options_.on_store) options_.on_store(false);
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
  } else if (auto* resume = std::get_if<core::ResumeAsked>(&input.event)) {
    *job_id = resume->job.id;
    LOCKSTEP_RETURN_IF_ERROR(LoadEnded(*resume, round));
  }
  const core::Outcome outcome = core::Apply(state_, input.event, options_.limits);
  for (const core::Effect& effect : outcome.effects) Stage(effect, input, round);
  if (const auto* ended = std::get_if<core::SessionEnded>(&input.event)) {
    round.actions.push_back(
        [this, key = SessionKey(ended->job, ended->generation, ended->rank), number = ended->session] {
          if (const auto it = sessions_.find(key); it != sessions_.end() && it->second.number == number) {
            sessions_.erase(it);
          }
        });
  }
  if (std::holds_alternative<core::ResumeAsked>(input.event) && !outcome.status.ok() &&
      state_.Find(*job_id) == nullptr) {
    round.dirty.erase(*job_id);
    live_.erase(*job_id);
  }
  if (outcome.status.ok() && input.submission.has_value() && !input.submission->request_id.empty()) {
    const store::RequestRow row{Fingerprint(input.submission->spec), *job_id};
    round.request_ids[input.submission->request_id] = row;
    round.changes.push_back(store::InsertRequestId{input.submission->request_id, row.fingerprint, row.job_id});
  }
  return outcome.status;
}

absl::Status Coordinator::LoadEnded(core::ResumeAsked& event, Round& round) {
  const std::string job_id = event.job.id;
  if (live_.contains(job_id)) return absl::OkStatus();  // The core says what is wrong with that.
  LOCKSTEP_ASSIGN_OR_RETURN(event.job, store_->LoadJob(job_id));
  ForgetMissing(event.job);
  LOCKSTEP_ASSIGN_OR_RETURN(const store::JobRow row, store_->GetJob(job_id));
  LOCKSTEP_ASSIGN_OR_RETURN(lockstep::v1::Job stored, ToProto(row));
  Live& live = Touch(job_id, round);
  live.spec = std::make_shared<const lockstep::v1::JobSpec>(std::move(*stored.mutable_spec()));
  stored.clear_spec();
  stored.clear_end_time();
  stored.set_cancel_requested(false);
  live.job = std::move(stored);
  live.last_sequence = row.last_sequence;
  return absl::OkStatus();
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
  std::vector<Input> again, volatile_ones;
  for (Input& input : inputs) {
    if (input.submission.has_value() || std::holds_alternative<core::CancelAsked>(input.event) ||
        std::holds_alternative<core::ScaleAsked>(input.event) ||
        std::holds_alternative<core::ResumeAsked>(input.event)) {
      if (input.answer) input.answer(cause, "");
    } else if (inputs.size() > 1 && (std::holds_alternative<core::LeaseAsked>(input.event) ||
                                     std::holds_alternative<core::GroupIdGiven>(input.event) ||
                                     std::holds_alternative<core::GroupIdAsked>(input.event) ||
                                     std::holds_alternative<core::HeartbeatSaid>(input.event))) {
      // Nothing of these is stored: training goes on.
      volatile_ones.push_back(std::move(input));
    } else {
      again.push_back(std::move(input));
    }
  }
  if (!volatile_ones.empty()) Process(std::move(volatile_ones));
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
