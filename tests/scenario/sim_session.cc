// SPDX-License-Identifier: Apache-2.0
// A simulated rank and its streams: hello, spool and resend, leases ahead, heartbeats.
#include <algorithm>
#include <utility>

#include "tests/scenario/sim_group.h"

namespace lockstep::sim {
namespace {

// Mostly quick; now and then something takes its time.
int64_t Delay(World& world) { return world.Chance(20) ? world.Between(20, 300) : world.Between(1, 6); }

void Stamp(core::Event& event, int64_t session) {
  std::visit(
      [&](auto& e) {
        if constexpr (std::is_base_of_v<core::FromWorker, std::decay_t<decltype(e)>>) e.session = session;
      },
      event);
}

}  // namespace

void SimGroup::Connect(int rank) {
  Worker& worker = workers_[rank];
  if (over_ || !worker.alive || worker.stream != nullptr) return;
  if (worker.hung) return worker.pending.push_back([this, rank] { Connect(rank); });
  if (!receiver_->up() || world_->now() < worker.reachable_at) {
    return world_->After(100, [this, rank] { Connect(rank); });
  }
  core::HelloSaid hello{From(rank)};
  hello.session = ++worker.session;
  hello.world_size = size();
  hello.host = "host";
  hello.pid = 100 + rank;
  hello.leased_end = worker.welcomed ? worker.leased_end : 0;
  Stream& stream = streams_.emplace_back();
  stream.from = hello;
  stream.incarnation = receiver_->incarnation();
  worker.stream = &stream;
  Transmit(&stream, hello);
}

void SimGroup::Transmit(Stream* stream, core::Event event) {
  stream->up_at = std::max(stream->up_at, world_->now() + Delay(*world_));
  world_->After(stream->up_at - world_->now(), [this, stream, event = std::move(event)] {
    const bool there = receiver_->up() && receiver_->incarnation() == stream->incarnation;
    if (there && !stream->lost && !stream->ended) receiver_->Arrive(event, stream);
  });
}

void SimGroup::Send(Stream* stream, const core::Effect& effect) {
  stream->down_at = std::max(stream->down_at, world_->now() + Delay(*world_));
  world_->After(stream->down_at - world_->now(), [this, stream, effect] {
    const int rank = stream->from.rank;
    Worker& worker = workers_[rank];
    const auto take = [this, stream, rank, effect] {
      if (workers_[rank].stream == stream && workers_[rank].alive) Take(rank, effect);
    };
    if (worker.hung) return worker.pending.push_back(take);
    take();
  });
}

void SimGroup::Refuse(Stream* stream) {
  stream->ended = true;
  world_->After(Delay(*world_), [this, stream] {
    if (workers_[stream->from.rank].stream == stream && !over_) Exit(stream->from.rank, 1);
  });
}

void SimGroup::CoordinatorGone() {
  for (int rank = 0; rank < size(); ++rank) {
    if (workers_[rank].stream != nullptr) Break(rank, false);
  }
}

void SimGroup::Break(int rank, bool stale) {
  if (workers_[rank].stream == nullptr) return;
  Drop(rank, stale);
  world_->After(world_->Between(40, 150), [this, rank] { Connect(rank); });
}

void SimGroup::Drop(int rank, bool stale) {
  Worker& worker = workers_[rank];
  Stream* stream = std::exchange(worker.stream, nullptr);
  if (stream == nullptr) return;
  worker.ready = false;
  stream->open = false;
  stream->lost = !stale;
  const int64_t late = stale ? world_->Between(1, 600) : world_->Between(1, 15);
  const int64_t at = std::max(stale ? stream->up_at : 0, world_->now() + late);
  world_->After(at - world_->now(), [this, stream, rank] {
    if (!receiver_->up() || receiver_->incarnation() != stream->incarnation) return;
    // Sometimes the process is seen to be gone only later.
    receiver_->StreamOver(stream, !workers_[rank].alive && !world_->Chance(100));
  });
}

void SimGroup::Take(int rank, const core::Effect& effect) {
  if (const auto* welcome = std::get_if<core::SendWelcome>(&effect)) return TakeWelcome(rank, *welcome);
  if (const auto* lease = std::get_if<core::SendLease>(&effect)) return TakeLease(rank, *lease);
  if (const auto* ack = std::get_if<core::SendAck>(&effect)) return TakeAck(rank, ack->report);
  if (const auto* stop = std::get_if<core::SendStop>(&effect)) {
    workers_[rank].stop = true;
    workers_[rank].stop_checkpoint |= stop->checkpoint;
  }
}

void SimGroup::TakeWelcome(int rank, const core::SendWelcome& welcome) {
  Worker& worker = workers_[rank];
  const bool first = !worker.welcomed;
  if (first) {
    worker.welcomed = true;
    worker.resume = welcome.resume;
    worker.leased_end = worker.ask_at = welcome.resume.step;
  }
  worker.ready = true;
  worker.next_to_send = welcome.last_report + 1;
  TakeAck(rank, welcome.last_report);
  if (worker.wanted > 0) AskLease(rank);
  Heartbeat(rank, first);
  Flush(rank);
  const auto welcomed = [](const Worker& one) { return one.welcomed; };
  if (stage_ != Stage::kConnecting || !std::all_of(workers_.begin(), workers_.end(), welcomed)) return;
  stage_ = Stage::kLoading;
  Later(plan_->load_ms);
}

void SimGroup::TakeLease(int rank, const core::SendLease& lease) {
  Worker& worker = workers_[rank];
  const core::ShardRange mine = core::ShardsOfRank(rank, size(), launch_.shape.logical_shards);
  if (lease.generation != generation() || lease.rank != rank || lease.first_step != worker.leased_end ||
      lease.shards.first != mine.first || lease.shards.end != mine.end) {
    return world_->Fail(absl::StrCat("rank ", rank, " of ", job(), " holds leases to ", worker.leased_end,
                                     " and gets one from ", lease.first_step));
  }
  worker.leased_end = lease.end_step;
  worker.wanted = 0;
  worker.ask_at = lease.first_step + (lease.end_step - lease.first_step) / 4;
  if (worker.phase == core::Phase::kLease) worker.phase = core::Phase::kStep;
  Poke();
}

void SimGroup::TakeAck(int rank, int64_t report) {
  Worker& worker = workers_[rank];
  while (worker.acknowledged < report && !worker.spool.empty()) {
    worker.spool.pop_front();
    ++worker.acknowledged;
  }
  if (worker.acknowledged < report) world_->Fail(absl::StrCat(job(), ": report ", report, " was never made"));
  if (worker.closing && worker.spool.empty()) Exit(rank, 0);
}

void SimGroup::AskLease(int rank) {
  Worker& worker = workers_[rank];
  if (worker.wanted == 0) worker.wanted = plan_->lease_steps;
  worker.ask_at = INT64_MAX;
  if (!worker.ready) return;
  core::LeaseAsked asked{From(rank)};
  asked.session = worker.session;
  asked.steps = worker.wanted;
  Transmit(worker.stream, asked);
}

void SimGroup::Heartbeat(int rank, bool again) {
  Worker& worker = workers_[rank];
  if (over_ || !worker.alive) return;
  if (worker.ready && !worker.hung) {
    core::HeartbeatSaid heartbeat{From(rank)};
    heartbeat.session = worker.session;
    heartbeat.progress = progress_;
    heartbeat.phase = worker.phase;
    heartbeat.step_seconds = plan_->step_ms / 1000.0;
    Transmit(worker.stream, heartbeat);
  }
  if (again) world_->After(500, [this, rank] { Heartbeat(rank, true); });
}

void SimGroup::Report(int rank, core::Event event) {
  Worker& worker = workers_[rank];
  const int64_t number = ++worker.last_report;
  std::visit(
      [&](auto& e) {
        if constexpr (std::is_base_of_v<core::FromWorker, std::decay_t<decltype(e)>>) {
          static_cast<core::FromWorker&>(e) = From(rank);
          e.report = number;
        }
      },
      event);
  worker.spool.push_back(std::move(event));
  Flush(rank);
}

void SimGroup::Flush(int rank) {
  Worker& worker = workers_[rank];
  while (worker.ready && worker.next_to_send <= worker.last_report) {
    core::Event event = worker.spool[worker.next_to_send - worker.acknowledged - 1];
    Stamp(event, worker.session);
    ++worker.next_to_send;
    if (world_->Chance(20)) Transmit(worker.stream, event);
    Transmit(worker.stream, std::move(event));
  }
}

}  // namespace lockstep::sim
