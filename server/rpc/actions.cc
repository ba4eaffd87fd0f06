// SPDX-License-Identifier: Apache-2.0
// The core's effects that are done once everything is stored.
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/coordinator.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

void Coordinator::StageOne(const core::Launch& effect, Input&, Round& round) {
  round.actions.push_back([this, effect] { LaunchGroup(effect); });
}

void Coordinator::LaunchGroup(const core::Launch& effect) {
  launch::LaunchRequest request{effect.job, effect.generation, effect.shape, RunDir(effect.job, effect.generation),
                                options_.worker_address};
  std::error_code error;
  std::filesystem::create_directories(request.run_dir, error);
  absl::Status status;
  if (error) {
    status = absl::ResourceExhaustedError(absl::StrCat(request.run_dir, ": cannot create: ", error.message()));
  } else {
    status = launcher_->Launch(request,
                               [this, job = effect.job, generation = effect.generation](const core::GroupExit& exit) {
                                 Post({core::GroupExited{job, generation, exit}, {}, nullptr, std::nullopt, nullptr});
                               });
  }
  if (status.ok()) return;
  Post({core::LaunchFailed{effect.job, effect.generation, std::string(status.message())},
        {},
        nullptr,
        std::nullopt,
        nullptr});
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
  const SessionKey key(effect.job, state_.Find(effect.job)->generation, effect.rank);
  round.actions.push_back([this, key, session = input.session, response = std::move(response)] {
    if (session == nullptr) return;
    sessions_[key] = session;
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
  if (const auto it = sessions_.find(key); it != sessions_.end()) it->second->Send(std::move(response));
}

void Coordinator::Forget(const std::string& job_id) {
  files_.End(job_id);
  live_.erase(job_id);
  std::erase_if(sessions_, [&](const auto& entry) { return std::get<0>(entry.first) == job_id; });
}

}  // namespace lockstep::rpc
