// SPDX-License-Identifier: Apache-2.0
// Commands that prove something of jobs: audit, diff, verify.
#include <nlohmann/json.hpp>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/audit.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/watch.h"

namespace lockstep::cli {

namespace {

using Stub = v1::TrainingService::Stub;

grpc::Status GetJob(Client& client, const std::string& job_id, v1::Job* job) {
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  v1::GetJobResponse response;
  grpc::Status status = client.Call(&Stub::GetJob, request, &response);
  *job = std::move(*response.mutable_job());
  return status;
}

// A job's digests after a step, page by page. An error ends them; see status().
class DigestPages {
 public:
  DigestPages(Client& client, const std::string& job_id, int64_t after_step) : client_(client) {
    request_.set_job_id(job_id);
    request_.set_after_step(after_step);
  }

  const grpc::Status& status() const { return status_; }
  DigestSource Source() {
    return [this](v1::RecordedDigest* digest) { return Next(digest); };
  }
  bool Next(v1::RecordedDigest* digest) {
    if (at_ == page_.digests_size()) {
      if (done_) return false;
      page_.Clear();
      at_ = 0;
      status_ = client_.Call(&Stub::ListDigests, request_, &page_);
      done_ = !status_.ok() || page_.digests().empty();
      if (done_) return false;
      request_.set_after_step(page_.digests().rbegin()->step());
    }
    *digest = page_.digests(at_++);
    return true;
  }

 private:
  Client& client_;
  v1::ListDigestsRequest request_;
  v1::ListDigestsResponse page_;
  int at_ = 0;
  bool done_ = false;
  grpc::Status status_;
};

nlohmann::json ToJson(const LedgerAudit& audit, const v1::Job& job, bool complete) {
  nlohmann::json json{{"jobId", job.job_id()},
                      {"state", v1::JobState_Name(job.state())},
                      {"ok", audit.problems.empty()},
                      {"complete", complete && audit.problems.empty()},
                      {"firstStep", audit.first_step},
                      {"endStep", audit.end_step},
                      {"totalSteps", audit.total_steps},
                      {"epochs", audit.epochs},
                      {"totalEpochs", audit.total_epochs},
                      {"voidedEntries", audit.voided_entries},
                      {"voidedSteps", audit.voided_steps},
                      {"generations", audit.generations},
                      {"problems", audit.problems}};
  if (audit.samples.has_value()) json["samples"] = *audit.samples;
  return json;
}

void PrintAudit(std::ostream& out, const LedgerAudit& audit, const v1::Job& job, bool complete) {
  const auto line = [&](const char* name, const std::string& value) {
    out << absl::StrFormat("%-12s %s\n", name, value);
  };
  line("job", absl::StrCat(job.job_id(), " (", StateName(job.state()), ")"));
  line("steps", absl::StrFormat("%d to %d of %d", audit.first_step, audit.end_step, audit.total_steps));
  line("epochs", absl::StrFormat("%d of %d", audit.epochs, audit.total_epochs));
  line("samples", audit.samples.has_value() ? absl::StrCat(*audit.samples) : "not known: the data is gone or changed");
  line("generations", absl::StrCat(audit.generations));
  line("voided",
       absl::StrFormat("%d ledger entries, %d steps done again or given up", audit.voided_entries, audit.voided_steps));
  for (const std::string& problem : audit.problems) line("wrong", problem);
  if (!audit.problems.empty()) {
    line("result", absl::StrCat(audit.problems.size(), " faults in the ledger"));
  } else if (complete) {
    line("result", "each step counts exactly once, and so each sample exactly once in each epoch");
  } else {
    line("result", absl::StrCat("so far each step counts exactly once: ", audit.end_step - audit.first_step, " of ",
                                audit.total_steps - audit.first_step));
  }
}

// Prints what was found; returns the exit status.
int PrintComparison(const Options& options, const DigestComparison& found, const std::string& a, const std::string& b) {
  const bool equal = found.common > 0 && !found.difference.has_value();
  if (options.json) {
    nlohmann::json json{{"a", a}, {"b", b}, {"equal", equal}, {"commonSteps", found.common}};
    if (found.common > 0) json["firstCommonStep"] = found.first_common;
    if (found.common > 0) json["lastCommonStep"] = found.last_common;
    if (found.difference.has_value()) {
      json["difference"] = {{"step", found.difference->step}, {"a", found.difference->a}, {"b", found.difference->b}};
    }
    *options.out << json.dump(2) << "\n";
  } else if (found.difference.has_value()) {
    *options.out << "they part at step " << found.difference->step
                 << (found.difference->last_equal.has_value()
                         ? absl::StrCat("; equal at step ", *found.difference->last_equal)
                         : std::string("; they have no equal step before"))
                 << "\n  " << a << "  " << found.difference->a << "\n  " << b << "  " << found.difference->b << "\n";
  } else if (found.common == 0) {
    *options.out << "nothing to compare: there is no step at which both have a digest\n";
  } else {
    *options.out << "equal at all " << found.common << " common steps, " << found.first_common << " to "
                 << found.last_common << "\n";
  }
  return equal ? kOk : kDiffers;
}

// Both jobs' digests in [first, last]; the exit status.
int Compare(const Options& options, Client& client, const std::string& a, const std::string& b, int64_t first,
            int64_t last) {
  DigestPages left(client, a, std::max<int64_t>(0, first - 1)), right(client, b, std::max<int64_t>(0, first - 1));
  const DigestComparison found = CompareDigests(left.Source(), right.Source(), first, last);
  for (const grpc::Status& status : {left.status(), right.status()}) {
    if (!status.ok()) return ReportError(options, status);
  }
  return PrintComparison(options, found, a, b);
}

struct VerifyPlan {
  int64_t from = 0;
  int64_t first = 0;
  int64_t last = 0;
};

// Where the replay begins, and whether there is something to compare; the exit status.
int PlanVerify(const Options& options, Client& client, const v1::Job& job, VerifyPlan* plan) {
  if (job.spec().training().reduction() == v1::REDUCTION_FASTEST) {
    *options.err << "error: job " << job.job_id()
                 << " was trained with REDUCTION_FASTEST, which does not promise the same bits; there is nothing to "
                    "verify\n";
    return kUsage;
  }
  if (plan->last > job.progress().step()) {
    *options.err << "error: job " << job.job_id() << " has done " << job.progress().step()
                 << " steps; --steps must end there or before\n";
    return kUsage;
  }
  v1::ListCheckpointsRequest request;
  request.set_job_id(job.job_id());
  v1::ListCheckpointsResponse response;
  if (const auto status = client.Call(&Stub::ListCheckpoints, request, &response); !status.ok()) {
    return ReportError(options, status);
  }
  for (const v1::CheckpointInfo& checkpoint : response.checkpoints()) {
    if (!checkpoint.final() && checkpoint.step() <= plan->first) plan->from = std::max(plan->from, checkpoint.step());
  }
  // A replay records digests of the steps that it does, and not of the place it begins at.
  DigestPages pages(client, job.job_id(), std::max(plan->from, plan->first - 1));
  v1::RecordedDigest digest;
  if (pages.Next(&digest) && digest.step() <= plan->last) return kOk;
  if (!pages.status().ok()) return ReportError(options, pages.status());
  *options.err << "error: job " << job.job_id() << " has no digest in steps " << plan->first << " to " << plan->last
               << " that a replay from step " << plan->from
               << " could be compared with; training.digest_interval_steps says how often there is one\n";
  return kDiffers;
}

// Submits the replay and follows it to its end on options.err; the exit status.
int RunReplay(const Options& options, Client& client, const v1::JobSpec& spec, const std::atomic<bool>* interrupted,
              std::string* replay_id) {
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  request.set_request_id(NewRequestId());
  v1::SubmitJobResponse response;
  if (const auto status = client.Call(&Stub::SubmitJob, request, &response); !status.ok()) {
    return ReportError(options, status);
  }
  *replay_id = response.job().job_id();
  *options.err << "replaying steps " << spec.replay().from_step() << " to " << spec.replay().until_step() << " as "
               << *replay_id << std::endl;
  Options progress = options;
  progress.json = false;
  progress.out = options.err;
  const int code = Watch(progress, client, *replay_id, {.interrupted = interrupted, .summary = false});
  if (code == kOk) return kOk;
  if (code != kInterrupted) {
    *options.err << "error: the replay " << *replay_id << " did not succeed, so nothing is proven\n";
    return code == kJobFailed || code == kJobCancelled ? kDiffers : code;
  }
  v1::CancelJobRequest cancel;
  cancel.set_job_id(*replay_id);
  cancel.set_reason("the verification was interrupted");
  v1::CancelJobResponse cancelled;
  (void)client.Call(&Stub::CancelJob, cancel, &cancelled);
  return kInterrupted;
}

}  // namespace

int Audit(const Options& options, const std::string& job_id) {
  Client client(options);
  v1::Job job;
  if (const auto status = GetJob(client, job_id, &job); !status.ok()) return ReportError(options, status);
  v1::ListLedgerRequest request;
  request.set_job_id(job_id);
  v1::ListLedgerResponse ledger;
  if (const auto status = client.Call(&Stub::ListLedger, request, &ledger); !status.ok()) {
    return ReportError(options, status);
  }
  const bool complete = job.state() == v1::JOB_STATE_SUCCEEDED;
  const LedgerAudit audit = AuditLedger(ledger, complete);
  if (options.json) {
    *options.out << ToJson(audit, job, complete).dump(2) << "\n";
  } else {
    PrintAudit(*options.out, audit, job, complete);
  }
  return audit.problems.empty() ? kOk : kDiffers;
}

int Diff(const Options& options, const std::string& a, const std::string& b) {
  Client client(options);
  return Compare(options, client, a, b, 0, INT64_MAX);
}

int Verify(const Options& options, const VerifyArguments& arguments, const std::atomic<bool>* interrupted) {
  VerifyPlan plan;
  if (!ParseStepRange(arguments.steps, &plan.first, &plan.last)) {
    *options.err << "error: --steps is \"" << arguments.steps << "\"; it must be two steps like 100..200\n";
    return kUsage;
  }
  Client client(options);
  v1::Job job;
  if (const auto status = GetJob(client, arguments.job, &job); !status.ok()) return ReportError(options, status);
  if (const int code = PlanVerify(options, client, job, &plan); code != kOk) return code;
  v1::JobSpec spec = job.spec();
  spec.set_name(VerifyName(job.spec().name()));
  spec.mutable_resources()->set_workers(arguments.workers > 0 ? arguments.workers : WorkersOf(job));
  v1::ReplaySpec& replay = *spec.mutable_replay();
  replay.set_job_id(arguments.job);
  replay.set_from_step(plan.from);
  replay.set_until_step(plan.last);
  std::string replay_id;
  if (const int code = RunReplay(options, client, spec, interrupted, &replay_id); code != kOk) return code;
  return Compare(options, client, arguments.job, replay_id, plan.first, plan.last);
}

}  // namespace lockstep::cli
