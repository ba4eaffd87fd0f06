// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

#include <algorithm>
#include <chrono>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/client.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/job_source.h"
#include "cli/watch.h"
#include "google/protobuf/util/time_util.h"

namespace lockstep::cli {

namespace {

using google::protobuf::util::TimeUtil;

constexpr int kPage = 100;

std::string JobAge(const v1::Job& job) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return Age(
      static_cast<double>(std::chrono::duration_cast<std::chrono::seconds>(now).count() - job.create_time().seconds()));
}

std::string TestScore(const v1::JobProgress& progress) {
  if (progress.has_test_accuracy()) return absl::StrFormat("%.4f", progress.test_accuracy());
  if (progress.has_test_r_squared()) return absl::StrFormat("R2 %.4f", progress.test_r_squared());
  return "-";
}

bool ParseStates(const Options& options, const std::vector<std::string>& names, v1::ListJobsRequest* request) {
  for (const std::string& name : names) {
    v1::JobState state;
    if (!v1::JobState_Parse(absl::StrCat("JOB_STATE_", absl::AsciiStrToUpper(name)), &state)) {
      *options.err << "error: unknown state \"" << name
                   << "\"; known: queued, starting, running, succeeded, failed, cancelled\n";
      return false;
    }
    request->add_states(state);
  }
  return true;
}

void PrintJob(const Options& options, const v1::Job& job) {
  const v1::JobProgress& p = job.progress();
  std::ostream& out = *options.out;
  const auto line = [&](const char* name, const std::string& value) {
    if (!value.empty()) out << absl::StrFormat("%-12s %s\n", name, value);
  };
  line("job", job.job_id());
  line("state", absl::StrCat(StateName(job.state()), job.cancel_requested() ? " (cancel requested)" : ""));
  line("reason", job.reason());
  line("workers", absl::StrCat(WorkersOf(job)));
  if (job.restarts() > 0) line("restarts", absl::StrCat(job.restarts()));
  line("progress", absl::StrFormat("epoch %d/%d, step %d/%d", p.epoch(), p.total_epochs(), p.step(), p.total_steps()));
  if (p.step() > 0) {
    line("train loss", absl::StrFormat("%.4f", p.train_loss()));
    line("samples/s", Count(p.samples_per_second()));
    line("data wait", absl::StrFormat("%.1f %%", 100 * p.data_wait_share()));
  }
  if (p.has_test_loss()) line("test loss", absl::StrFormat("%.4f", p.test_loss()));
  if (p.has_test_accuracy()) line("test acc", absl::StrFormat("%.4f", p.test_accuracy()));
  if (p.has_test_r_squared()) line("test R2", absl::StrFormat("%.4f", p.test_r_squared()));
  line("created", TimeUtil::ToString(job.create_time()));
  if (job.has_start_time()) line("started", TimeUtil::ToString(job.start_time()));
  if (job.has_end_time()) line("ended", TimeUtil::ToString(job.end_time()));
  line("generation", absl::StrCat(job.generation()));
  line("results", job.output_dir());
}

int WatchFrom(const Options& options, Client& client, const std::string& job_id, int64_t after_sequence,
              const std::atomic<bool>* interrupted) {
  const int code = Watch(options, client, job_id, {.interrupted = interrupted, .after_sequence = after_sequence});
  if (code == kInterrupted) *options.err << "The job goes on. Watch it again with: lockstep watch " << job_id << "\n";
  return code;
}

// The newest event of a job that has ended; 0 for others.
grpc::Status LastSequence(Client& client, const std::string& job_id, int64_t* sequence) {
  v1::GetJobRequest get;
  get.set_job_id(job_id);
  v1::GetJobResponse got;
  if (grpc::Status status = client.Call(&v1::TrainingService::Stub::GetJob, get, &got); !status.ok()) return status;
  if (!got.job().has_end_time()) return grpc::Status::OK;
  grpc::ClientContext context;
  client.SetDeadline(context);
  v1::WatchJobRequest request;
  request.set_job_id(job_id);
  const auto stream = client.stub().WatchJob(&context, request);
  v1::WatchJobResponse response;
  while (stream->Read(&response)) *sequence = std::max(*sequence, response.event().sequence());
  return stream->Finish();
}

}  // namespace

int Submit(const Options& options, const SubmitArguments& arguments, const std::atomic<bool>* interrupted) {
  v1::SubmitJobRequest request;
  if (const int code = LoadJob(options, arguments.file, arguments.overrides, request.mutable_spec()); code != kOk) {
    return code;
  }
  request.set_request_id(arguments.request_id.empty() ? NewRequestId() : arguments.request_id);
  request.set_validate_only(arguments.dry_run);
  Client client(options);
  v1::SubmitJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::SubmitJob, request, &response);
  if (!status.ok()) return ReportError(options, status);
  const std::string& id = response.job().job_id();
  if (arguments.dry_run) {
    if (!options.json) *options.out << "valid; nothing was submitted\n";
    if (options.json) *options.out << ToJson(response, true) << "\n";
    return kOk;
  }
  if (options.json && !arguments.watch) *options.out << ToJson(response, true) << std::endl;
  if (!options.json) *options.out << "submitted " << id << std::endl;
  if (!arguments.watch) {
    if (!options.json) *options.err << "Follow it with: lockstep watch " << id << "\n";
    return kOk;
  }
  return WatchCommand(options, id, interrupted);
}

int WatchCommand(const Options& options, const std::string& job_id, const std::atomic<bool>* interrupted) {
  Client client(options);
  return WatchFrom(options, client, job_id, 0, interrupted);
}

int List(const Options& options, int limit, const std::vector<std::string>& states) {
  Client client(options);
  v1::ListJobsRequest request;
  if (!ParseStates(options, states, &request)) return kUsage;
  v1::ListJobsResponse all;
  do {
    request.set_page_size(std::min(kPage, limit - all.jobs_size()));
    v1::ListJobsResponse page;
    const grpc::Status status = client.Call(&v1::TrainingService::Stub::ListJobs, request, &page);
    if (!status.ok()) return ReportError(options, status);
    all.mutable_jobs()->MergeFrom(page.jobs());
    all.set_next_page_token(page.next_page_token());
    request.set_page_token(page.next_page_token());
  } while (!all.next_page_token().empty() && all.jobs_size() < limit);
  if (options.json) {
    *options.out << ToJson(all, true) << "\n";
    return kOk;
  }
  if (all.jobs().empty()) {
    *options.out << "no jobs\n";
    return kOk;
  }
  const bool restarted = std::ranges::any_of(all.jobs(), [](const v1::Job& job) { return job.restarts() > 0; });
  std::vector<std::vector<std::string>> rows{{"JOB", "STATE", "EPOCH", "STEP", "LOSS", "TEST", "WORKERS", "AGE"}};
  if (restarted) rows[0].push_back("RESTARTS");
  for (const v1::Job& job : all.jobs()) {
    const v1::JobProgress& p = job.progress();
    rows.push_back({job.job_id(), StateName(job.state()), absl::StrCat(p.epoch(), "/", p.total_epochs()),
                    absl::StrCat(p.step(), "/", p.total_steps()),
                    p.step() > 0 ? absl::StrFormat("%.4f", p.train_loss()) : "-", TestScore(p),
                    absl::StrCat(WorkersOf(job)), JobAge(job)});
    if (restarted) rows.back().push_back(job.restarts() > 0 ? absl::StrCat(job.restarts()) : "-");
  }
  *options.out << Table(rows);
  if (!all.next_page_token().empty()) *options.err << "There are more; --limit shows them.\n";
  return kOk;
}

int Show(const Options& options, const std::string& job_id) {
  Client client(options);
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  v1::GetJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::GetJob, request, &response);
  if (!status.ok()) return ReportError(options, status);
  if (options.json) {
    *options.out << ToJson(response, true) << "\n";
  } else {
    PrintJob(options, response.job());
  }
  return kOk;
}

int Cancel(const Options& options, const std::string& job_id, const std::string& reason) {
  Client client(options);
  v1::CancelJobRequest request;
  request.set_job_id(job_id);
  request.set_reason(reason);
  v1::CancelJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::CancelJob, request, &response);
  if (!status.ok()) return ReportError(options, status);
  if (options.json) {
    *options.out << ToJson(response, true) << "\n";
  } else {
    *options.out << (response.job().state() == v1::JOB_STATE_CANCELLED ? "cancelled " : "cancelling ") << job_id
                 << "\n";
  }
  return kOk;
}

int Scale(const Options& options, const std::string& job_id, int workers) {
  Client client(options);
  v1::ScaleJobRequest request;
  request.set_job_id(job_id);
  request.set_workers(workers);
  v1::ScaleJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::ScaleJob, request, &response);
  if (!status.ok()) return ReportError(options, status);
  if (options.json) {
    *options.out << ToJson(response, true) << "\n";
  } else {
    *options.out << job_id << " is to have " << workers << (workers == 1 ? " worker\n" : " workers\n");
  }
  return kOk;
}

int Checkpoints(const Options& options, const std::string& job_id) {
  Client client(options);
  v1::ListCheckpointsRequest request;
  request.set_job_id(job_id);
  v1::ListCheckpointsResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::ListCheckpoints, request, &response);
  if (!status.ok()) return ReportError(options, status);
  if (options.json) {
    *options.out << ToJson(response, true) << "\n";
    return kOk;
  }
  if (response.checkpoints().empty()) {
    *options.out << "no checkpoints\n";
    return kOk;
  }
  std::vector<std::vector<std::string>> rows{{"STEP", "KIND", "GENERATION", "BYTES", "PATH"}};
  for (const v1::CheckpointInfo& checkpoint : response.checkpoints()) {
    rows.push_back({absl::StrCat(checkpoint.step()), checkpoint.final() ? "model" : "checkpoint",
                    absl::StrCat(checkpoint.generation()), absl::StrCat(checkpoint.bytes()), checkpoint.path()});
  }
  *options.out << Table(rows);
  return kOk;
}

int Resume(const Options& options, const ResumeArguments& arguments, const std::atomic<bool>* interrupted) {
  Client client(options);
  // What happened before is not watched again.
  int64_t seen = 0;
  if (arguments.watch) {
    const grpc::Status status = LastSequence(client, arguments.job, &seen);
    if (!status.ok()) return ReportError(options, status);
  }
  v1::ResumeJobRequest request;
  request.set_job_id(arguments.job);
  if (arguments.from_step.has_value()) request.set_from_step(*arguments.from_step);
  v1::ResumeJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::ResumeJob, request, &response);
  if (!status.ok()) return ReportError(options, status);
  // With a number of workers the answer to that is the newer one.
  const bool last = !arguments.watch && arguments.workers == 0;
  if (options.json && last) *options.out << ToJson(response, true) << std::endl;
  if (!options.json) *options.out << "resumed " << arguments.job << std::endl;
  if (arguments.workers > 0) {
    if (const int code = Scale(options, arguments.job, arguments.workers); code != kOk) return code;
  }
  if (arguments.watch) return WatchFrom(options, client, arguments.job, seen, interrupted);
  if (!options.json) *options.err << "Follow it with: lockstep watch " << arguments.job << "\n";
  return kOk;
}

int Logs(const Options& options, const std::string& job_id, bool follow) {
  Client client(options);
  grpc::ClientContext context;
  if (!follow) client.SetDeadline(context);
  v1::WatchLogsRequest request;
  request.set_job_id(job_id);
  request.set_follow(follow);
  const auto stream = client.stub().WatchLogs(&context, request);
  v1::WatchLogsResponse response;
  while (stream->Read(&response)) *options.out << response.chunk() << std::flush;
  const grpc::Status status = stream->Finish();
  return status.ok() ? kOk : ReportError(options, status);
}

}  // namespace lockstep::cli
