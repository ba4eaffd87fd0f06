// SPDX-License-Identifier: Apache-2.0
// TrainingService: what is recorded of a job, and how it goes on.
#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/rpc/checkpoint_list.h"
#include "server/rpc/errors.h"
#include "server/rpc/training_service.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

namespace {

constexpr int64_t kMaxDigests = 10'000;

// Rows that follow on each other are one entry, so that the answer grows with the generations and not
// with the steps. Gaps and overlaps stay as they are.
void AddEntry(const store::LedgerRow& row, v1::ListLedgerResponse* response) {
  if (response->entries_size() > 0) {
    v1::LedgerEntry& last = *response->mutable_entries(response->entries_size() - 1);
    if (last.generation() == row.generation && last.voided() == row.voided && last.end_step() == row.first_step) {
      last.set_end_step(row.end_step);
      return;
    }
  }
  v1::LedgerEntry& entry = *response->add_entries();
  entry.set_generation(row.generation);
  entry.set_first_step(row.first_step);
  entry.set_end_step(row.end_step);
  entry.set_voided(row.voided);
}

}  // namespace

grpc::Status TrainingServiceImpl::NotLive(const std::string& job_id) const {
  v1::Job job;
  if (grpc::Status status = Load(job_id, &job); !status.ok()) return status;
  return ToGrpc(absl::FailedPreconditionError(absl::StrCat("job ", job_id, " has ended already: ", job.reason())),
                "JOB_ENDED");
}

grpc::ServerUnaryReactor* TrainingServiceImpl::ScaleJob(grpc::CallbackServerContext* call,
                                                        const v1::ScaleJobRequest* request,
                                                        v1::ScaleJobResponse* response) {
  auto* reactor = call->DefaultReactor();
  context_.coordinator->Scale(request->job_id(), request->workers(),
                              [=, this](const absl::Status& status, const std::string&) {
                                grpc::Status answer = ToGrpc(status);
                                if (status.ok()) answer = Load(request->job_id(), response->mutable_job());
                                if (absl::IsNotFound(status)) answer = NotLive(request->job_id());
                                if (absl::IsInvalidArgument(status)) {
                                  Violations violations;
                                  violations.Add("workers", std::string(status.message()));
                                  answer = ToGrpc(violations, "");
                                }
                                Finish(reactor, "ScaleJob", answer);
                              });
  return reactor;
}

grpc::Status TrainingServiceImpl::NoSuchCheckpoint(const v1::ResumeJobRequest& request) const {
  const auto row = context_.store->GetJob(request.job_id());
  if (!row.ok()) return ToGrpc(row.status(), absl::IsNotFound(row.status()) ? "JOB_NOT_FOUND" : "");
  if (!request.has_from_step()) {
    return ToGrpc(
        absl::FailedPreconditionError(absl::StrCat("job ", request.job_id(), " has no checkpoint left to go on from")),
        "NO_CHECKPOINT");
  }
  const auto checkpoints = PresentCheckpoints(*context_.store, request.job_id());
  if (!checkpoints.ok()) return ToGrpc(checkpoints.status());
  Violations violations;
  violations.Add("from_step",
                 absl::StrCat("job ", request.job_id(), " has no checkpoint at step ", request.from_step(),
                              "; it can go on from ", StepsToStartFrom(*checkpoints, row->shape.first_step)));
  return ToGrpc(violations, "");
}

grpc::ServerUnaryReactor* TrainingServiceImpl::ResumeJob(grpc::CallbackServerContext* call,
                                                         const v1::ResumeJobRequest* request,
                                                         v1::ResumeJobResponse* response) {
  auto* reactor = call->DefaultReactor();
  std::optional<int64_t> from_step;
  if (request->has_from_step()) from_step = request->from_step();
  context_.coordinator->Resume(request->job_id(), from_step, [=, this](const absl::Status& status, const std::string&) {
    grpc::Status answer = ToGrpc(status);
    if (status.ok()) answer = Load(request->job_id(), response->mutable_job());
    if (absl::IsNotFound(status)) answer = NoSuchCheckpoint(*request);
    Finish(reactor, "ResumeJob", answer);
  });
  return reactor;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::ListCheckpoints(grpc::CallbackServerContext* call,
                                                               const v1::ListCheckpointsRequest* request,
                                                               v1::ListCheckpointsResponse* response) {
  auto* reactor = call->DefaultReactor();
  v1::Job job;
  grpc::Status status = Load(request->job_id(), &job);
  if (status.ok()) {
    const auto rows = PresentCheckpoints(*context_.store, request->job_id());
    status = ToGrpc(rows.status());
    for (size_t i = 0; rows.ok() && i < rows->size(); ++i) {
      const store::CheckpointRow& row = (*rows)[i];
      v1::CheckpointInfo& info = *response->add_checkpoints();
      info.set_step(row.step);
      info.set_generation(row.generation);
      info.set_path(row.path);
      info.set_final(row.final);
      info.set_bytes(BytesOnDisk(row.path));
    }
  }
  Finish(reactor, "ListCheckpoints", status);
  return reactor;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::ListLedger(grpc::CallbackServerContext* call,
                                                          const v1::ListLedgerRequest* request,
                                                          v1::ListLedgerResponse* response) {
  auto* reactor = call->DefaultReactor();
  v1::Job job;
  grpc::Status status = Load(request->job_id(), &job);
  const auto row = context_.store->GetJob(request->job_id());
  if (status.ok()) status = ToGrpc(row.status());
  if (status.ok()) {
    const auto rows = context_.store->Ledger(request->job_id());
    status = ToGrpc(rows.status());
    for (size_t i = 0; rows.ok() && i < rows->size(); ++i) AddEntry((*rows)[i], response);
    response->set_first_step(row->shape.first_step);
    response->set_total_steps(row->stopped_at > 0 ? row->stopped_at : row->shape.total_steps);
    response->set_steps_per_epoch(row->shape.steps_per_epoch);
    response->set_batch_size(job.spec().training().batch_size());
    response->set_train_samples(TrainSamples(job, row->shape.steps_per_epoch));
  }
  Finish(reactor, "ListLedger", status);
  return reactor;
}

int64_t TrainingServiceImpl::TrainSamples(const v1::Job& job, int64_t steps_per_epoch) const {
  Violations violations;
  const int64_t samples = context_.validate(job.spec(), violations).dataset.train_samples;
  const int64_t batch = std::max<int64_t>(1, job.spec().training().batch_size());
  // Data that gives another number of steps is not what the job was submitted with.
  return violations.empty() && (samples + batch - 1) / batch == steps_per_epoch ? samples : 0;
}

grpc::ServerUnaryReactor* TrainingServiceImpl::ListDigests(grpc::CallbackServerContext* call,
                                                           const v1::ListDigestsRequest* request,
                                                           v1::ListDigestsResponse* response) {
  auto* reactor = call->DefaultReactor();
  if (request->after_step() < 0) {
    Violations violations;
    violations.Add("after_step", "must not be negative");
    Finish(reactor, "ListDigests", ToGrpc(violations, ""));
    return reactor;
  }
  v1::Job job;
  grpc::Status status = Load(request->job_id(), &job);
  if (status.ok()) {
    const auto rows = context_.store->Digests(request->job_id(), request->after_step(), kMaxDigests);
    status = ToGrpc(rows.status());
    for (size_t i = 0; rows.ok() && i < rows->size(); ++i) {
      v1::RecordedDigest& digest = *response->add_digests();
      digest.set_step((*rows)[i].step);
      digest.set_digest((*rows)[i].digest);
    }
  }
  Finish(reactor, "ListDigests", status);
  return reactor;
}

}  // namespace lockstep::rpc
