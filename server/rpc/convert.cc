// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/convert.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

// The core's states have the contract's numbers.
static_assert(static_cast<int>(core::JobState::kQueued) == v1::JOB_STATE_QUEUED);
static_assert(static_cast<int>(core::JobState::kStarting) == v1::JOB_STATE_STARTING);
static_assert(static_cast<int>(core::JobState::kRunning) == v1::JOB_STATE_RUNNING);
static_assert(static_cast<int>(core::JobState::kSucceeded) == v1::JOB_STATE_SUCCEEDED);
static_assert(static_cast<int>(core::JobState::kFailed) == v1::JOB_STATE_FAILED);
static_assert(static_cast<int>(core::JobState::kCancelled) == v1::JOB_STATE_CANCELLED);
static_assert(static_cast<int>(core::Phase::kStartup) == v1::Heartbeat::PHASE_STARTUP);
static_assert(static_cast<int>(core::Phase::kLease) == v1::Heartbeat::PHASE_LEASE);
static_assert(static_cast<int>(core::WarningKind::kDivergence) == v1::WARNING_KIND_DIVERGENCE);
static_assert(static_cast<int>(core::WarningKind::kResumeUnusable) == v1::WARNING_KIND_RESUME_UNUSABLE);

v1::JobState ToProto(core::JobState state) { return static_cast<v1::JobState>(state); }

google::protobuf::Timestamp ToProto(Clock::Wall time) {
  const int64_t nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(nanos / 1'000'000'000);
  timestamp.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return timestamp;
}

absl::StatusOr<v1::Job> ToProto(const store::JobRow& row) {
  v1::Job job;
  if (!job.ParseFromString(row.status) || !job.mutable_spec()->ParseFromString(row.spec)) {
    return absl::DataLossError(absl::StrCat("the stored job ", row.job_id, " is damaged"));
  }
  return job;
}

core::HelloSaid ToEvent(const v1::Hello& hello) {
  core::HelloSaid said;
  said.job = hello.job_id();
  said.generation = hello.generation();
  said.rank = hello.rank();
  said.world_size = hello.world_size();
  said.host = hello.host().substr(0, 255);
  said.pid = hello.pid();
  said.session = std::max<int64_t>(1, hello.session());
  said.leased_end = hello.leased_end();
  return said;
}

namespace {

std::vector<std::pair<int64_t, std::string>> ToDigests(const google::protobuf::RepeatedPtrField<v1::StepDigest>& from) {
  std::vector<std::pair<int64_t, std::string>> digests;
  digests.reserve(from.size());
  for (const v1::StepDigest& digest : from) digests.emplace_back(digest.step(), digest.digest());
  return digests;
}

}  // namespace

absl::StatusOr<core::Event> ToEvent(const v1::SessionRequest& request, const core::FromWorker& session) {
  core::FromWorker from = session;
  from.report = request.report();
  switch (request.kind_case()) {
    case v1::SessionRequest::kLeaseRequest:
      from.generation = request.lease_request().generation();
      return core::LeaseAsked{from, request.lease_request().steps()};
    case v1::SessionRequest::kCommitSteps: {
      const v1::StepsCommitted& steps = request.commit_steps().steps();
      from.generation = steps.generation();
      return core::StepsReported{from, steps.first_step(), steps.end_step(), request.commit_steps().snapshot(),
                                 ToDigests(request.commit_steps().digests())};
    }
    case v1::SessionRequest::kEpochCompleted:
      return core::EpochReported{from, request.epoch_completed().epoch(), request.epoch_completed().step(),
                                 request.epoch_completed().stopped_early()};
    case v1::SessionRequest::kCheckpointSaved: {
      const v1::CheckpointSaved& saved = request.checkpoint_saved();
      return core::CheckpointReported{from, saved.step(), saved.path(), saved.final()};
    }
    case v1::SessionRequest::kDigestReport: {
      const v1::DigestReport& report = request.digest_report();
      from.generation = report.generation();
      return core::DigestReported{from, ToDigests(report.digests())};
    }
    case v1::SessionRequest::kGoodbye: {
      const v1::Goodbye& goodbye = request.goodbye();
      from.generation = goodbye.generation();
      core::Farewell farewell = core::Farewell::kNone;
      if (goodbye.outcome() == v1::Goodbye::OUTCOME_SUCCEEDED) farewell = core::Farewell::kSucceeded;
      if (goodbye.outcome() == v1::Goodbye::OUTCOME_FAILED) farewell = core::Farewell::kFailed;
      if (goodbye.outcome() == v1::Goodbye::OUTCOME_STOPPED) farewell = core::Farewell::kStopped;
      return core::GoodbyeSaid{from,
                               farewell,
                               goodbye.message().substr(0, 2000),
                               goodbye.step(),
                               goodbye.permanent(),
                               goodbye.resume_unusable()};
    }
    case v1::SessionRequest::kHeartbeat: {
      const v1::Heartbeat& heartbeat = request.heartbeat();
      from.generation = heartbeat.generation();
      const bool known =
          heartbeat.phase() >= v1::Heartbeat::PHASE_STARTUP && heartbeat.phase() <= v1::Heartbeat::PHASE_LEASE;
      return core::HeartbeatSaid{from, heartbeat.progress(),
                                 known ? static_cast<core::Phase>(heartbeat.phase()) : core::Phase::kStep,
                                 heartbeat.step_seconds()};
    }
    case v1::SessionRequest::kGroupId:
      from.generation = request.group_id().generation();
      return core::GroupIdGiven{from, request.group_id().id()};
    case v1::SessionRequest::kGroupIdRequest:
      from.generation = request.group_id_request().generation();
      return core::GroupIdAsked{from};
    case v1::SessionRequest::kWarning:
      return core::WarningReported{from};
    case v1::SessionRequest::kHello:
      return absl::InvalidArgumentError("a session has one hello, its first message");
    case v1::SessionRequest::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("an empty message, or one of a newer version");
}

std::string ToJson(const google::protobuf::Message& message) {
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(message, &text).ok()) return "{}";
  return text;
}

}  // namespace lockstep::rpc
