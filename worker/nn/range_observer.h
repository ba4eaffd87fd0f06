// SPDX-License-Identifier: Apache-2.0
// Gives each layer's part of a pass a range with its name: "dense_1 forward".
#pragma once

#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "worker/device/range_marker.h"
#include "worker/nn/node_observer.h"

namespace lockstep {

class RangeObserver final : public NodeObserver {
 public:
  // The marker outlives the observer.
  RangeObserver(RangeMarker* marker, const ModelPlan& plan) : marker_(marker) {
    for (const LayerPlan& layer : plan.layers) {
      forward_.push_back(layer.name + " forward");
      backward_.push_back(layer.name + " backward");
    }
  }

  void Begin(Pass pass, int layer) override { marker_->Begin(Name(pass, static_cast<size_t>(layer))); }
  void Done(Pass, int) override { marker_->End(); }
  // A profiler must not change what is computed.
  bool wants_each_layer() const override { return false; }

 private:
  const char* Name(Pass pass, size_t layer) const {
    if (pass == Pass::kLoss) return "loss";
    return (pass == Pass::kForward ? forward_ : backward_)[layer].c_str();
  }

  RangeMarker* marker_;
  // One for each layer, so that a step makes no names.
  std::vector<std::string> forward_;
  std::vector<std::string> backward_;
};

}  // namespace lockstep
