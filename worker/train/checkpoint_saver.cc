// SPDX-License-Identifier: Apache-2.0
#include "worker/train/checkpoint_saver.h"

#include <sys/resource.h>
#include <unistd.h>

#include <utility>

namespace lockstep {

CheckpointSaver::CheckpointSaver(std::string output_dir, KeepPolicy keep, std::map<std::string, std::string> metadata,
                                 Device* device, Model* model, Optimizer* optimizer, Failpoints* failpoints,
                                 OnDone on_done)
    : output_dir_(std::move(output_dir)),
      keep_(keep),
      device_(device),
      model_(model),
      optimizer_(optimizer),
      failpoints_(failpoints),
      on_done_(std::move(on_done)),
      image_{.metadata = std::move(metadata)},
      thread_([this] { Run(); }) {}

CheckpointSaver::~CheckpointSaver() {
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void CheckpointSaver::Save(int64_t step, int64_t generation, const TrainerState& trainer, std::optional<double> score) {
  Flush();
  image_.step = step;
  image_.generation = generation;
  image_.trainer = trainer;
  image_.score = score;
  image_.Capture(*device_, *model_, *optimizer_);
  const std::lock_guard lock(mutex_);
  busy_ = true;
  changed_.notify_all();
}

void CheckpointSaver::Flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_; });
}

void CheckpointSaver::Run() {
  // Hashing and writing must not take a core from the step.
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return busy_ || quit_; });
    if (!busy_) return;
    lock.unlock();
    on_done_(image_.step, SaveCheckpoint(output_dir_, image_, model_->parameter_views(), keep_, failpoints_));
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace lockstep
