// SPDX-License-Identifier: Apache-2.0
// The coordinator: one thread applies events to the core, stores what follows, and only then acts.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "lockstep/v1/events.pb.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/worker_service.pb.h"
#include "server/core/apply.h"
#include "server/launch/launcher.h"
#include "server/rpc/event_hub.h"
#include "server/rpc/result_files.h"
#include "server/rpc/timer_queue.h"
#include "server/store/store.h"

namespace lockstep::rpc {

// A worker's stream, as the coordinator sees it. Thread-safe.
class WorkerSession {
 public:
  virtual ~WorkerSession() = default;
  virtual void Send(lockstep::v1::SessionResponse response) = 0;
};

struct CoordinatorOptions {
  // Absolute.
  std::string state_dir;
  std::vector<std::string> data_roots;
  int slots = 4;
  core::Limits limits;
  // Where workers open their sessions.
  std::string worker_address;
  // Told of each transaction that failed (true), and of the first that succeeds again (false).
  std::function<void(bool failing)> on_store;
};

// A validated job on its way in.
struct Submission {
  lockstep::v1::JobSpec spec;
  core::JobShape shape;
  // May be empty.
  std::string request_id;
  // A checkpoint at shape.first_step to start from; empty: the initial weights.
  std::string start_checkpoint;
};

// All but Start and Stop are thread-safe. Answers come on the coordinator's thread and must be short.
class Coordinator {
 public:
  using Answer = std::function<void(const absl::Status& status, const std::string& job_id)>;
  // Called for each event after it was stored, on the coordinator's thread.
  using Observer = std::function<void(const std::string& job_id, const lockstep::v1::JobEvent& event)>;

  // All outlive this object.
  Coordinator(CoordinatorOptions options, store::Store* store, launch::Launcher* launcher, TimerQueue* timers,
              EventHub* hub, const Clock* clock, Observer observer);
  ~Coordinator();

  // Takes the stored jobs up again, with groups that an earlier coordinator left, and begins to work.
  absl::Status Start();
  // Where no unix socket can be used, the address is known only once the server listens. Before Start.
  void SetWorkerAddress(const std::string& address) { options_.worker_address = address; }
  // Ends the thread; groups go on. What is still waiting gets UNAVAILABLE.
  void Stop();

  // Durable when answered with OK. RESOURCE_EXHAUSTED: it could not be stored.
  void Submit(Submission submission, Answer answer);
  void Cancel(const std::string& job_id, const std::string& reason, Answer answer);
  void Scale(const std::string& job_id, int workers, Answer answer);
  // A job that has ended goes on from a checkpoint's step; nullopt: from the newest.
  void Resume(const std::string& job_id, std::optional<int64_t> from_step, Answer answer);
  // What a worker said. `session` only with a Hello. Not answered before it is stored.
  void Deliver(core::Event event, lockstep::v1::SessionRequest report, std::shared_ptr<WorkerSession> session,
               Answer answer);
  // Stops every group with a checkpoint; `drained` is called when nothing runs any more.
  void Drain(std::function<void()> drained);

  // Folder of the newest generation's log and process files.
  std::string RunDir(const std::string& job_id, int64_t generation) const;

 private:
  struct Input {
    core::Event event;
    lockstep::v1::SessionRequest report;
    std::shared_ptr<WorkerSession> session;
    std::optional<Submission> submission;
    Answer answer;
  };
  // A job that has not ended: what its row holds.
  struct Live {
    lockstep::v1::Job job;  // Without the spec.
    std::shared_ptr<const lockstep::v1::JobSpec> spec;
    int64_t last_sequence = 0;
  };
  // What one transaction stores, and what is to be done after it.
  struct Round {
    store::Batch changes;
    std::vector<std::function<void()>> actions;
    std::vector<std::pair<std::string, lockstep::v1::JobEvent>> events;
    std::set<std::string> dirty;
    std::map<std::string, store::RequestRow> request_ids;
  };
  using SessionKey = std::tuple<std::string, int64_t, int>;
  struct OpenSession {
    // Which of the rank's streams.
    int64_t number = 0;
    std::shared_ptr<WorkerSession> session;
  };

  void Post(Input input);
  void Run();
  void Process(std::vector<Input> inputs);
  // The status for the input's answer; job_id may be another's where the request is a repeat.
  absl::Status Accept(Input& input, Round& round, std::string* job_id);
  absl::Status StageRequestId(Input& input, Round& round, std::string* job_id, bool* repeated);
  void Undo();
  void Refuse(std::vector<Input> inputs, const absl::Status& cause);
  void Publish(Round& round);
  absl::Status Recover(Round& round);
  // Forgets snapshots and checkpoints whose files are gone.
  void ForgetMissing(core::Job& job) const;
  // Reads the stored job into the event, and makes it live.
  absl::Status LoadEnded(core::ResumeAsked& event, Round& round);

  // staging.cc: effects into rows and events, actions.cc: effects into deeds.
  void Stage(const core::Effect& effect, Input& input, Round& round);
  void StageUpdates(Round& round);
  Live& Touch(const std::string& job_id, Round& round);
  void AddEvent(const std::string& job_id, lockstep::v1::JobEvent event, Round& round);
  void StageOne(const core::StoreState& effect, Input& input, Round& round);
  void StageOne(const core::StoreGeneration& effect, Input& input, Round& round);
  void StageOne(const core::StoreSteps& effect, Input& input, Round& round);
  void StageOne(const core::StoreEpoch& effect, Input& input, Round& round);
  void StageOne(const core::StoreEarlyStop& effect, Input& input, Round& round);
  void StageOne(const core::StoreCheckpoint& effect, Input& input, Round& round);
  void StageOne(const core::StoreCancelRequest& effect, Input& input, Round& round);
  void StageOne(const core::StoreWorker& effect, Input& input, Round& round);
  void StageOne(const core::StoreWarning& effect, Input& input, Round& round);
  void StageOne(const core::Launch& effect, Input& input, Round& round);
  void StageOne(const core::KillGroup& effect, Input& input, Round& round);
  void StageOne(const core::SendWelcome& effect, Input& input, Round& round);
  void StageOne(const core::SendLease& effect, Input& input, Round& round);
  void StageOne(const core::SendGroupId& effect, Input& input, Round& round);
  void StageOne(const core::SendStop& effect, Input& input, Round& round);
  void StageOne(const core::StartTimer& effect, Input& input, Round& round);
  void StageOne(const core::StoreDigest& effect, Input& input, Round& round);
  void StageOne(const core::StoreRank& effect, Input& input, Round& round);
  void StageOne(const core::VoidCheckpoint& effect, Input& input, Round& round);
  void StageOne(const core::VoidSnapshots& effect, Input& input, Round& round);
  void StageOne(const core::StoreScale& effect, Input& input, Round& round);
  void StageOne(const core::SendAck& effect, Input& input, Round& round);
  void StageOne(const core::DropSnapshots& effect, Input& input, Round& round);
  void StageOne(const core::Drained& effect, Input& input, Round& round);
  void LaunchGroup(const core::Launch& effect, const lockstep::v1::ResourcesSpec& resources);
  launch::Launcher::OnExit OnExit(const std::string& job_id, int64_t generation);
  void Send(const SessionKey& key, lockstep::v1::SessionResponse response);
  void Forget(const std::string& job_id);

  CoordinatorOptions options_;
  store::Store* const store_;
  launch::Launcher* const launcher_;
  TimerQueue* const timers_;
  EventHub* const hub_;
  const Clock* const clock_;
  const Observer observer_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Input> inbox_;
  bool stopping_ = false;
  std::function<void()> drained_;
  std::thread thread_;

  // The coordinator's thread only.
  core::State state_;
  ResultFiles files_;
  std::map<std::string, Live> live_;
  std::map<std::string, std::optional<Live>> undo_live_;
  std::map<SessionKey, OpenSession> sessions_;
  // The newest transaction failed.
  bool store_failing_ = false;
  int64_t last_order_ = 0;
};

}  // namespace lockstep::rpc
