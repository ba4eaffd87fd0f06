// SPDX-License-Identifier: Apache-2.0
// All jobs that have not ended, with an undo log, so that what could not be stored can be taken back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "server/core/job.h"

namespace lockstep::core {

// Not thread-safe. Jobs that have ended are not kept.
class State {
 public:
  explicit State(int slots) : slots_(slots) {}

  int slots() const { return slots_; }
  int free_slots() const { return slots_ - used_slots_; }
  bool draining() const { return draining_; }
  size_t size() const { return jobs_.size(); }
  // Places in the order of submission of those that hold slots.
  const std::set<int64_t>& active() const { return active_; }
  // Null where there is no live job of that id. The pointer lives until the next change.
  const Job* Find(const JobId& id) const;
  // The queued job that came first; null where nothing waits.
  const Job* FirstQueued() const;
  // Every live job in the order of submission.
  const std::map<int64_t, Job>& jobs() const { return jobs_; }

  // A change: all of them go through these and are undone by Rollback.
  void Add(Job job);
  void Remove(const JobId& id);
  void set_draining(bool draining);
  void set_slots(int slots) { slots_ = slots; }
  // Calls `change(Job&)` on the job, which must exist.
  template <typename Change>
  void Update(const JobId& id, Change&& change) {
    const int64_t order = order_of_.at(id);
    Remember(order);
    Job& job = jobs_.at(order);
    Unindex(job);
    change(job);
    Index(job);
  }

  // Starts a new undo log; what happened before can no longer be undone.
  void Mark();
  // Takes back all changes since Mark.
  void Rollback();

 private:
  void Remember(int64_t order);
  void Index(const Job& job);
  void Unindex(const Job& job);

  int slots_;
  int used_slots_ = 0;
  bool draining_ = false;
  std::map<int64_t, Job> jobs_;
  std::unordered_map<JobId, int64_t> order_of_;
  std::set<int64_t> queued_;
  std::set<int64_t> active_;
  // What a job was at Mark; nullopt: it was not there.
  std::map<int64_t, std::optional<Job>> undo_;
  bool undo_draining_ = false;
};

}  // namespace lockstep::core
