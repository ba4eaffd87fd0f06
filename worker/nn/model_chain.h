// SPDX-License-Identifier: Apache-2.0
// ModelChain: a model that is a chain of dense layers, for devices that do such a one at once (DenseChain).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "worker/device/dense_chain.h"
#include "worker/nn/graph.h"
#include "worker/nn/model.h"
#include "worker/nn/objective.h"

namespace lockstep {

class ModelChain {
 public:
  // The flat arrays' tensors, in the plan's order.
  struct Tensors {
    std::span<const Tensor> parameters;
    std::span<const Tensor> gradients;
  };

  // Null: the model is something else, its loss is, or not all of it is trained in float. All outlive the chain.
  static std::unique_ptr<ModelChain> Find(const ModelPlan& plan, Graph& graph, Objective& objective, DType type,
                                          ProductPrecision precision);

  // Does what Model::ForwardBackward does, where the device takes it; else false, and nothing is done. The graph is
  // bound to the batch.
  bool Run(Device& device, const Tensors& tensors, const Batch& batch, double scale, Tensor gradient, Tensor stats);

 private:
  ModelChain(Graph& graph, Objective& objective) : graph_(graph), objective_(objective) {}
  // False: this node cannot be part of a chain behind those before it.
  bool Append(const ModelPlan& plan, int node);

  Graph& graph_;
  Objective& objective_;
  // Nodes of dense layers.
  std::vector<size_t> dense_;
  // Whether a device takes a chain is a function of its shapes.
  int64_t refused_rows_ = -1;
  // Of the running call.
  std::vector<ChainLayer> layers_;
};

}  // namespace lockstep
