// SPDX-License-Identifier: Apache-2.0
// Effects in words.
#include "absl/strings/str_cat.h"
#include "tests/scenario/script.h"

namespace lockstep::sim {
namespace {

using absl::StrCat;

std::string From(const core::ResumePoint& point) {
  if (point.snapshot_generation != 0) {
    return StrCat("step ", point.step, ", snapshot of generation ", point.snapshot_generation);
  }
  return StrCat("step ", point.step, point.path.empty() ? "" : ", checkpoint ", point.path);
}
std::string Say(const core::StoreState& e) {
  return StrCat("state ", e.job, "/", e.generation, " ", std::string(core::JobStateName(e.state)), ": ", e.reason);
}
std::string Say(const core::StoreGeneration& e) {
  return StrCat("store generation ", e.job, "/", e.generation, " from step ", e.first_step);
}
std::string Say(const core::StoreSteps& e) {
  return StrCat("store steps ", e.job, "/", e.generation, " [", e.first_step, ", ", e.end_step, ")",
                e.snapshot ? " with a snapshot" : "");
}
std::string Say(const core::StoreDigest& e) { return StrCat("store digest ", e.job, " step ", e.step, " ", e.digest); }
std::string Say(const core::StoreEpoch& e) { return StrCat("store epoch ", e.job, " ", e.epoch); }
std::string Say(const core::StoreEarlyStop& e) { return StrCat("store end ", e.job, " at step ", e.step); }
std::string Say(const core::StoreCheckpoint& e) {
  return StrCat("store ", e.final ? "model " : "checkpoint ", e.job, "/", e.generation, " step ", e.step, " ", e.path);
}
std::string Say(const core::StoreRank& e) {
  return StrCat("store rank ", e.job, "/", e.generation, " ", e.rank, ": stream ", e.state.session, ", report ",
                e.state.last_report,
                e.state.farewell == core::Farewell::kNone     ? ""
                : e.state.farewell == core::Farewell::kFailed ? ", has failed"
                                                              : ", has said goodbye");
}
std::string Say(const core::VoidCheckpoint& e) { return StrCat("void checkpoint ", e.job, " step ", e.step); }
std::string Say(const core::VoidSnapshots& e) { return StrCat("void snapshots ", e.job, " after step ", e.after); }
std::string Say(const core::StoreScale& e) { return StrCat("store scale ", e.job, " ", e.workers); }
std::string Say(const core::StoreCancelRequest& e) { return StrCat("store cancel ", e.job); }
std::string Say(const core::StoreWorker& e) {
  return StrCat("store worker ", e.job, "/", e.generation, " ", e.rank, e.connected ? " connected" : " disconnected");
}
std::string Say(const core::StoreWarning& e) { return StrCat("warn ", e.job, ": ", e.message); }
std::string Say(const core::Launch& e) {
  return StrCat("launch ", e.job, "/", e.generation, " with ", e.shape.workers, " from ", From(e.resume));
}
std::string Say(const core::KillGroup& e) { return StrCat("kill ", e.job, "/", e.generation); }
std::string Say(const core::SendWelcome& e) {
  return StrCat("welcome ", e.job, " ", e.rank, ": ", From(e.resume), ", report ", e.last_report);
}
std::string Say(const core::SendAck& e) { return StrCat("ack ", e.job, " ", e.rank, ": report ", e.report); }
std::string Say(const core::SendLease& e) {
  return StrCat("lease ", e.job, " ", e.rank, ": steps [", e.first_step, ", ", e.end_step, ") shards [", e.shards.first,
                ", ", e.shards.end, ")");
}
std::string Say(const core::SendGroupId& e) { return StrCat("group id ", e.job, " ", e.rank, ": ", e.id); }
std::string Say(const core::SendStop& e) {
  return StrCat("stop ", e.job, " ", e.rank, e.checkpoint ? " with a checkpoint: " : ": ", e.reason);
}
std::string Say(const core::StartTimer& e) {
  // The watchdog's comes with every look.
  static constexpr const char* kNames[] = {"startup", "kill", "settle"};
  if (e.kind == core::TimerKind::kWatch) return "";
  return StrCat("timer ", e.job, "/", e.generation, " ", kNames[static_cast<int>(e.kind)], " in ", e.delay.count(),
                " ms");
}
std::string Say(const core::DropSnapshots& e) { return StrCat("drop snapshots ", e.job); }
std::string Say(const core::Drained&) { return "drained"; }

}  // namespace

std::string Describe(const core::Effect& effect) {
  return std::visit([](const auto& e) { return Say(e); }, effect);
}

}  // namespace lockstep::sim
