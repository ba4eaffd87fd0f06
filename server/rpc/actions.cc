// SPDX-License-Identifier: Apache-2.0
// The core's effects that are done once everything is stored.
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/coordinator.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

namespace {

const char* DeviceName(v1::Device device) {
  switch (device) {
    case v1::DEVICE_CPU:
      return "cpu";
    case v1::DEVICE_CUDA:
      return "cuda";
    default:
      return "auto";
  }
}

}  // namespace

void Coordinator::StageOne(const core::Launch& effect, Input&, Round& round) {
  const v1::ResourcesSpec& resources = live_.at(effect.job).spec->resources();
  round.actions.push_back([this, effect, resources] { LaunchGroup(effect, resources); });
}

void Coordinator::LaunchGroup(const core::Launch& effect, const v1::ResourcesSpec& resources) {
  launch::LaunchRequest request{effect.job,
                                effect.generation,
                                effect.shape,
                                RunDir(effect.job, effect.generation),
                                options_.worker_address,
                                effect.resume.snapshot_generation,
                                DeviceName(resources.device()),
                                resources.share_devices()};
  std::error_code error;
  std::filesystem::create_directories(request.run_dir, error);
  absl::Status status;
  if (error) {
    status = absl::ResourceExhaustedError(absl::StrCat(request.run_dir, ": cannot create: ", error.message()));
  } else {
    status = launcher_->Launch(request, OnExit(effect.job, effect.generation));
  }
  if (status.ok()) return;
  Post({core::LaunchFailed{effect.job, effect.generation, std::string(status.message())},
        {},
        nullptr,
        std::nullopt,
        nullptr});
}

launch::Launcher::OnExit Coordinator::OnExit(const std::string& job_id, int64_t generation) {
  return [this, job_id, generation](const core::GroupExit& exit) {
    Post({core::GroupExited{job_id, generation, exit}, {}, nullptr, std::nullopt, nullptr});
  };
}

void Coordinator::StageOne(const core::DropSnapshots& effect, Input&, Round& round) {
  round.actions.push_back([this, job = effect.job] { launcher_->DropSnapshots(job, 0); });
}

void Coordinator::StageOne(const core::SendAck& effect, Input&, Round& round) {
  v1::SessionResponse response;
  response.mutable_ack()->set_report(effect.report);
  round.actions.push_back([this, key = SessionKey(effect.job, effect.generation, effect.rank),
                           response = std::move(response)] { Send(key, response); });
}

void Coordinator::StageOne(const core::KillGroup& effect, Input&, Round& round) {
  round.actions.push_back([this, effect] { launcher_->Kill(effect.job, effect.generation); });
}

void Coordinator::StageOne(const core::SendWelcome& effect, Input& input, Round& round) {
  v1::SessionResponse response;
  v1::Welcome& welcome = *response.mutable_welcome();
  const Live& live = live_.at(effect.job);
  *welcome.mutable_spec() = *live.spec;
  for (const std::string& root : options_.data_roots) welcome.add_data_roots(root);
  welcome.set_output_dir(live.job.output_dir());
  welcome.set_resume_checkpoint(effect.resume.path);
  welcome.set_first_step(effect.resume.step);
  welcome.set_total_steps(effect.shape.total_steps);
  welcome.set_logical_shards(effect.shape.logical_shards);
  welcome.set_last_report(effect.last_report);
  const int64_t generation = state_.Find(effect.job)->generation;
  if (effect.resume.snapshot_generation != 0) {
    welcome.set_resume_snapshot(launcher_->SnapshotPath(effect.job, effect.resume.snapshot_generation));
  }
  welcome.set_snapshot_path(launcher_->SnapshotPath(effect.job, generation));
  const int64_t number = state_.Find(effect.job)->ranks[effect.rank].session;
  const SessionKey key(effect.job, generation, effect.rank);
  round.actions.push_back([this, key, number, session = input.session, response = std::move(response)] {
    if (session == nullptr) return;
    sessions_[key] = {number, session};
    session->Send(response);
  });
}

void Coordinator::StageOne(const core::SendLease& effect, Input&, Round& round) {
  v1::SessionResponse response;
  v1::Lease& lease = *response.mutable_lease();
  lease.set_generation(effect.generation);
  lease.set_rank(effect.rank);
  lease.set_first_step(effect.first_step);
  lease.set_end_step(effect.end_step);
  lease.set_first_shard(effect.shards.first);
  lease.set_end_shard(effect.shards.end);
  round.actions.push_back([this, key = SessionKey(effect.job, effect.generation, effect.rank),
                           response = std::move(response)] { Send(key, response); });
}

void Coordinator::StageOne(const core::SendGroupId& effect, Input&, Round& round) {
  v1::SessionResponse response;
  response.mutable_group_id()->set_generation(effect.generation);
  response.mutable_group_id()->set_id(effect.id);
  round.actions.push_back([this, key = SessionKey(effect.job, effect.generation, effect.rank),
                           response = std::move(response)] { Send(key, response); });
}

void Coordinator::StageOne(const core::SendStop& effect, Input&, Round& round) {
  v1::SessionResponse response;
  response.mutable_stop()->set_reason(effect.reason);
  response.mutable_stop()->set_checkpoint(effect.checkpoint);
  const int64_t generation = state_.Find(effect.job)->generation;
  round.actions.push_back([this, key = SessionKey(effect.job, generation, effect.rank),
                           response = std::move(response)] { Send(key, response); });
}

void Coordinator::StageOne(const core::StartTimer& effect, Input&, Round& round) {
  round.actions.push_back([this, effect] {
    timers_->Schedule(effect.delay, [this, effect] {
      Post({core::TimerFired{effect.job, effect.generation, effect.kind}, {}, nullptr, std::nullopt, nullptr});
    });
  });
}

void Coordinator::StageOne(const core::Drained&, Input&, Round& round) {
  round.actions.push_back([this] {
    std::function<void()> drained;
    {
      const std::lock_guard lock(mutex_);
      drained = std::exchange(drained_, nullptr);
    }
    if (drained) drained();
  });
}

void Coordinator::Send(const SessionKey& key, v1::SessionResponse response) {
  if (const auto it = sessions_.find(key); it != sessions_.end()) it->second.session->Send(std::move(response));
}

void Coordinator::Forget(const std::string& job_id) {
  files_.End(job_id);
  live_.erase(job_id);
  std::erase_if(sessions_, [&](const auto& entry) { return std::get<0>(entry.first) == job_id; });
}

}  // namespace lockstep::rpc
