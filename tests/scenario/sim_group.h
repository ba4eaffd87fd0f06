// SPDX-License-Identifier: Apache-2.0
// A simulated worker group under its shim: both outlive the coordinator. Its workers follow the real
// protocol, go in lockstep, and "train" a hash that is chained over the steps.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/core/events.h"
#include "tests/scenario/sim_world.h"

namespace lockstep::sim {

// One rank's stream, both its ends.
struct Stream {
  core::FromWorker from;
  // Which life of the coordinator it leads to.
  int incarnation = 0;
  int64_t up_at = 0, down_at = 0;
  // The worker's side has not ended it.
  bool open = true;
  // What is still in flight does not arrive.
  bool lost = false;
  // The coordinator's side: hello accepted; refused or over.
  bool accepted = false;
  bool ended = false;
  bool over = false;
};

// The coordinator, as workers and shims see it.
class Receiver {
 public:
  virtual ~Receiver() = default;
  virtual bool up() const = 0;
  virtual int incarnation() const = 0;
  virtual void Arrive(core::Event event, Stream* stream) = 0;
  virtual void StreamOver(Stream* stream, bool process_gone) = 0;
  virtual void Tell(core::Event event) = 0;
};

// How a job is trained.
struct Plan {
  core::JobSubmitted submit;
  uint64_t seed = 0;
  int step_ms = 20;
  int load_ms = 100;
  int commit_every = 5;
  int digest_every = 5;
  int checkpoint_every = 20;
  int lease_steps = 16;
  // How long a worker waits at its end for what is not acknowledged.
  int close_ms = 3000;
  // Its workers stop early there; 0: they do not.
  int64_t stop_step = 0;
  // Undisturbed: after so many steps.
  std::vector<uint64_t> bits;

  int64_t end_step() const { return stop_step > 0 ? stop_step : submit.shape.total_steps; }
};

struct SavedState {
  int64_t step = -1;
  uint64_t bits = 0;
  bool damaged = false;
};
// Disk and shared memory.
struct Files {
  std::map<std::string, SavedState> checkpoints;
  std::map<std::pair<core::JobId, int64_t>, std::array<SavedState, 2>> snapshots;
  // Paths by job, oldest first.
  std::map<core::JobId, std::deque<std::string>> kept;
};

class SimGroup {
 public:
  SimGroup(World* world, Receiver* receiver, Files* files, const Plan* plan, const core::Launch& launch);

  const core::JobId& job() const { return launch_.job; }
  int64_t generation() const { return launch_.generation; }
  int size() const { return launch_.shape.workers; }
  bool over() const { return over_; }
  bool Alive(int rank) const { return workers_[rank].alive; }

  // The coordinator's side. This life of it wants to hear of the group's end.
  void Adopt();
  void Kill();
  void Send(Stream* stream, const core::Effect& effect);
  // It ended the stream because it refused a message.
  void Refuse(Stream* stream);
  // It is gone: its streams break.
  void CoordinatorGone();

  // Faults.
  void KillRank(int rank);
  void KillShim() { End({.reported = false}); }
  void Hang(int rank, int64_t milliseconds);
  void Deadlock() { deadlocked_ = true; }
  // `stale`: what is in flight still arrives, perhaps after the next stream's hello.
  void Break(int rank, bool stale);
  void Partition(int rank, int64_t milliseconds);
  void Terminate(int rank);
  void FailRank(int rank, bool permanent);
  // The rank's parameters change by themselves. False: not a moment where that can be seen.
  bool Corrupt(int rank);

 private:
  struct Worker {
    bool alive = true;
    bool hung = false;
    // Arrived while it was hung.
    std::deque<std::function<void()>> pending;
    Stream* stream = nullptr;
    int64_t session = 0;
    // Welcomed at all; on the current stream.
    bool welcomed = false;
    bool ready = false;
    int64_t reachable_at = 0;
    core::ResumePoint resume;
    int64_t leased_end = 0, ask_at = 0, wanted = 0;
    std::deque<core::Event> spool;
    int64_t last_report = 0, next_to_send = 1, acknowledged = 0;
    bool stop = false, stop_checkpoint = false, closing = false;
    uint64_t bits = 0;
    core::Phase phase = core::Phase::kStartup;
    std::vector<std::pair<int64_t, std::string>> digests;
  };
  enum class Stage { kConnecting, kLoading, kTraining, kClosing };

  // sim_session.cc: a rank and its stream.
  void Connect(int rank);
  void Transmit(Stream* stream, core::Event event);
  void Take(int rank, const core::Effect& effect);
  void TakeWelcome(int rank, const core::SendWelcome& welcome);
  void TakeLease(int rank, const core::SendLease& lease);
  void TakeAck(int rank, int64_t report);
  void AskLease(int rank);
  void Heartbeat(int rank, bool again);
  void Report(int rank, core::Event event);
  void Flush(int rank);

  // sim_group.cc: the group.
  core::FromWorker From(int rank) const;
  void Later(int64_t milliseconds);
  void Poke();
  // What the ranks do together next, if all of them can.
  void Go();
  void Load();
  void Step();
  void AfterStep();
  void Commit();
  void ReportEpoch();
  void SaveCheckpoint(int64_t step, uint64_t bits);
  void Finish(core::Farewell farewell);
  void SayGoodbye(core::Farewell farewell);
  void Goodbye(int rank, core::GoodbyeSaid goodbye);
  void Exit(int rank, int code);
  void Drop(int rank, bool stale);
  void End(core::GroupExit exit);
  void TellExit();

  World* const world_;
  Receiver* const receiver_;
  Files* const files_;
  const Plan* const plan_;
  const core::Launch launch_;
  std::vector<Worker> workers_;
  std::deque<Stream> streams_;
  Stage stage_ = Stage::kConnecting;
  bool waiting_ = false;
  bool deadlocked_ = false;
  int64_t step_ = 0, committed_ = 0, progress_ = 0;
  uint64_t contamination_ = 0;
  // The reports that committed the two snapshots, in the slots' order, and the slot to be written next.
  std::array<int64_t, 2> snapshot_reports_{0, 0};
  int slot_ = 0;
  int exit_code_ = 0;
  int incarnation_ = 0;
  bool over_ = false;
  core::GroupExit exit_;
};

// How a digest is written.
std::string DigestOf(uint64_t bits);

}  // namespace lockstep::sim
