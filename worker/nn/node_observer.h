// SPDX-License-Identifier: Apache-2.0
// Watches a model at work, layer by layer: for measurements, and for a profiler that watches the process.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lockstep {

enum class Pass : uint8_t { kForward, kLoss, kBackward };

class NodeObserver {
 public:
  virtual ~NodeObserver() = default;
  // A layer's part of a pass is enqueued next; as Done.
  virtual void Begin(Pass pass, int layer) { static_cast<void>(pass), static_cast<void>(layer); }
  // A layer's part of a pass has just been enqueued. `layer`: its index in the model's plan, with a function that was
  // fused into it; for the loss, how many layers there are.
  virtual void Done(Pass pass, int layer) = 0;
  // False: layers that a device does at once (DenseChain) may stay so, and nobody is told of them. Else the model goes
  // through them one by one, which has other bits.
  virtual bool wants_each_layer() const { return true; }
};

// Several as one: told of a beginning in the order in which they were added, and of an end the other way round.
class NodeObservers final : public NodeObserver {
 public:
  // It outlives this one.
  void Add(NodeObserver* observer) { all_.push_back(observer); }
  void Begin(Pass pass, int layer) override {
    for (NodeObserver* const observer : all_) observer->Begin(pass, layer);
  }
  void Done(Pass pass, int layer) override {
    for (size_t i = all_.size(); i-- > 0;) all_[i]->Done(pass, layer);
  }
  bool wants_each_layer() const override {
    return std::ranges::any_of(all_, [](const NodeObserver* observer) { return observer->wants_each_layer(); });
  }

 private:
  std::vector<NodeObserver*> all_;
};

}  // namespace lockstep
