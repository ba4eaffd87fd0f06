// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/training_service.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/digest.h"
#include "server/rpc/convert.h"
#include "server/rpc/errors.h"
#include "server/rpc/replay.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

namespace {

constexpr int kDefaultPage = 50;
constexpr int kMaxPage = 1000;
constexpr size_t kMaxRequestId = 64;
constexpr size_t kMaxReason = 500;

std::string HashOf(const std::string& text) {
  return FastDigest(std::as_bytes(std::span(text.data(), text.size()))).substr(0, 16);
}

// A page token is the order of the last job shown, bound to the filter by a hash over both.
std::string FilterText(const v1::ListJobsRequest& request) {
  std::vector<int> states(request.states().begin(), request.states().end());
  std::sort(states.begin(), states.end());
  std::string text = "list-jobs-1";
  for (const int state : states) absl::StrAppend(&text, ",", state);
  return text;
}

std::string MakeToken(const v1::ListJobsRequest& request, int64_t order) {
  return absl::WebSafeBase64Escape(absl::StrCat(order, ".", HashOf(absl::StrCat(FilterText(request), ":", order))));
}

bool ReadToken(const v1::ListJobsRequest& request, int64_t* order) {
  std::string text;
  if (request.page_token().size() > 200 || !absl::WebSafeBase64Unescape(request.page_token(), &text)) return false;
  const std::vector<std::string> parts = absl::StrSplit(text, '.');
  return parts.size() == 2 && absl::SimpleAtoi(parts[0], order) &&
         parts[1] == HashOf(absl::StrCat(FilterText(request), ":", *order));
}

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > 63) return false;
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return alnum(name.front()) && alnum(name.back()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return alnum(c) || c == '-'; });
}

}  // namespace

void TrainingServiceImpl::Finish(grpc::ServerUnaryReactor* reactor, const char* method,
                                 const grpc::Status& status) const {
  if (context_.on_call) context_.on_call(method, CodeName(status.error_code()));
  reactor->Finish(status);
}

grpc::Status TrainingServiceImpl::Load(const std::string& job_id, v1::Job* job) const {
  const auto row = context_.store->GetJob(job_id);
  if (!row.ok()) return ToGrpc(row.status(), absl::IsNotFound(row.status()) ? "JOB_NOT_FOUND" : "");
  auto loaded = ToProto(*row);
  if (!loaded.ok()) return ToGrpc(loaded.status());
  *job = std::move(*loaded);
  return grpc::Status::OK;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::SubmitJob(grpc::CallbackServerContext* call,
                                                         const v1::SubmitJobRequest* request,
                                                         v1::SubmitJobResponse* response) {
  auto* reactor = call->DefaultReactor();
  Violations wrong_request;
  if (request->request_id().size() > kMaxRequestId) {
    wrong_request.Add("request_id", absl::StrCat("has more than ", kMaxRequestId, " characters"));
  }
  if (!wrong_request.empty()) {
    Finish(reactor, "SubmitJob", ToGrpc(wrong_request, ""));
    return reactor;
  }
  Violations violations;
  const JobPlan plan = context_.validate(request->spec(), violations);
  const bool name_reported = std::any_of(violations.list().begin(), violations.list().end(),
                                         [](const Violation& violation) { return violation.field == "name"; });
  // The name becomes part of paths, so it is checked here whatever the validator thinks of it.
  if (!IsName(request->spec().name()) && !name_reported) {
    violations.Add("name", "must be 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit");
  }
  const int workers = request->spec().resources().workers();
  if (workers > context_.slots) {
    violations.Add("resources.workers",
                   absl::StrCat("asks for ", workers, " workers but the coordinator has ", context_.slots,
                                " slots: ask for fewer, or start lockstepd with --slots=", workers, " or more"));
  }
  Submission submission{request->spec(),
                        {.workers = workers,
                         .threads_per_worker = std::max(1, request->spec().resources().threads_per_worker()),
                         .logical_shards = plan.logical_shards,
                         .total_steps = plan.total_steps,
                         .steps_per_epoch = plan.steps_per_epoch},
                        request->request_id(),
                        {}};
  ResolveReplay(*context_.store, submission, violations);
  if (!violations.empty()) {
    Finish(reactor, "SubmitJob", ToGrpc(violations, "spec."));
    return reactor;
  }
  if (request->validate_only()) {
    *response->mutable_job()->mutable_spec() = request->spec();
    response->mutable_job()->mutable_progress()->set_total_steps(submission.shape.total_steps);
    response->mutable_job()->mutable_progress()->set_total_epochs(request->spec().training().epochs());
    Finish(reactor, "SubmitJob", grpc::Status::OK);
    return reactor;
  }
  context_.coordinator->Submit(std::move(submission), [=, this](const absl::Status& status, const std::string& job_id) {
    Finish(reactor, "SubmitJob", status.ok() ? Load(job_id, response->mutable_job()) : ToGrpc(status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::GetJob(grpc::CallbackServerContext* call,
                                                      const v1::GetJobRequest* request, v1::GetJobResponse* response) {
  auto* reactor = call->DefaultReactor();
  Finish(reactor, "GetJob", Load(request->job_id(), response->mutable_job()));
  return reactor;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::ListJobs(grpc::CallbackServerContext* call,
                                                        const v1::ListJobsRequest* request,
                                                        v1::ListJobsResponse* response) {
  auto* reactor = call->DefaultReactor();
  Violations violations;
  int64_t before = INT64_MAX;
  if (request->page_size() < 0) violations.Add("page_size", "must not be negative");
  if (!request->page_token().empty() && !ReadToken(*request, &before)) {
    violations.Add("page_token", "is not from the previous page of the same list: begin again without one");
  }
  std::vector<core::JobState> states;
  for (const int state : request->states()) {
    if (state < v1::JOB_STATE_QUEUED || state > v1::JOB_STATE_CANCELLED) {
      violations.Add("states", absl::StrCat(state, " is not a state"));
    } else {
      states.push_back(static_cast<core::JobState>(state));
    }
  }
  if (!violations.empty()) {
    Finish(reactor, "ListJobs", ToGrpc(violations, ""));
    return reactor;
  }
  const int size = request->page_size() == 0 ? kDefaultPage : std::min(request->page_size(), kMaxPage);
  // One more than the page tells whether there is another.
  const auto rows = context_.store->ListJobs(states, before, size + 1);
  grpc::Status status = ToGrpc(rows.status());
  for (int i = 0; rows.ok() && i < std::min<int>(size, static_cast<int>(rows->size())); ++i) {
    auto job = ToProto((*rows)[i]);
    if (!job.ok()) status = ToGrpc(job.status());
    if (job.ok()) *response->add_jobs() = std::move(*job);
  }
  if (rows.ok() && static_cast<int>(rows->size()) > size) {
    response->set_next_page_token(MakeToken(*request, (*rows)[size - 1].order));
  }
  Finish(reactor, "ListJobs", status);
  return reactor;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::CancelJob(grpc::CallbackServerContext* call,
                                                         const v1::CancelJobRequest* request,
                                                         v1::CancelJobResponse* response) {
  auto* reactor = call->DefaultReactor();
  context_.coordinator->Cancel(request->job_id(), request->reason().substr(0, kMaxReason),
                               [=, this, job_id = request->job_id()](const absl::Status& status, const std::string&) {
                                 grpc::Status answer =
                                     status.ok() ? Load(job_id, response->mutable_job()) : ToGrpc(status);
                                 if (absl::IsNotFound(status)) answer = NotLive(job_id);
                                 Finish(reactor, "CancelJob", answer);
                               });
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* TrainingServiceImpl::WatchJob(grpc::CallbackServerContext*,
                                                                              const v1::WatchJobRequest* request) {
  return StartWatchJob(context_, *request);
}

grpc::ServerWriteReactor<v1::WatchLogsResponse>* TrainingServiceImpl::WatchLogs(grpc::CallbackServerContext*,
                                                                                const v1::WatchLogsRequest* request) {
  return StartWatchLogs(context_, *request);
}

}  // namespace lockstep::rpc
