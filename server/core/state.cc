// SPDX-License-Identifier: Apache-2.0
#include "server/core/state.h"

#include <utility>

namespace lockstep::core {

const Job* State::Find(const JobId& id) const {
  const auto it = order_of_.find(id);
  return it == order_of_.end() ? nullptr : &jobs_.at(it->second);
}

const Job* State::FirstQueued() const { return queued_.empty() ? nullptr : &jobs_.at(*queued_.begin()); }

void State::Add(Job job) {
  const int64_t order = job.order;
  Remember(order);
  order_of_[job.id] = order;
  Job& added = jobs_[order] = std::move(job);
  Index(added);
}

void State::Remove(const JobId& id) {
  const auto it = order_of_.find(id);
  if (it == order_of_.end()) return;
  const int64_t order = it->second;
  Remember(order);
  Unindex(jobs_.at(order));
  jobs_.erase(order);
  order_of_.erase(it);
}

void State::set_draining(bool draining) { draining_ = draining; }

void State::Mark() {
  undo_.clear();
  undo_draining_ = draining_;
}

void State::Rollback() {
  auto undo = std::exchange(undo_, {});
  for (auto& [order, before] : undo) {
    if (const auto now = jobs_.find(order); now != jobs_.end()) {
      Unindex(now->second);
      order_of_.erase(now->second.id);
      jobs_.erase(now);
    }
    if (before.has_value()) {
      order_of_[before->id] = order;
      Job& restored = jobs_[order] = std::move(*before);
      Index(restored);
    }
  }
  draining_ = undo_draining_;
}

void State::Remember(int64_t order) {
  if (undo_.contains(order)) return;
  const auto it = jobs_.find(order);
  undo_.emplace(order, it == jobs_.end() ? std::nullopt : std::optional<Job>(it->second));
}

void State::Index(const Job& job) {
  if (job.state == JobState::kQueued) queued_.insert(job.order);
  if (IsActive(job.state)) {
    used_slots_ += job.group_size();
    active_.insert(job.order);
  }
}

void State::Unindex(const Job& job) {
  if (job.state == JobState::kQueued) queued_.erase(job.order);
  if (IsActive(job.state)) {
    used_slots_ -= job.group_size();
    active_.erase(job.order);
  }
}

}  // namespace lockstep::core
