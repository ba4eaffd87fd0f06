// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/model_chain.h"

#include <algorithm>

namespace lockstep {

std::unique_ptr<ModelChain> ModelChain::Find(const ModelPlan& plan, Graph& graph, Objective& objective, DType type,
                                             ProductPrecision precision) {
  if (type != DType::kF32 || precision != ProductPrecision::kFloat) return nullptr;
  if (objective.loss().softmax_crossentropy() == nullptr) return nullptr;
  std::unique_ptr<ModelChain> chain(new ModelChain(graph, objective));
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!chain->Append(plan, static_cast<int>(i))) return nullptr;
  }
  if (chain->dense_.empty()) return nullptr;
  chain->layers_.resize(chain->dense_.size());
  return chain;
}

bool ModelChain::Append(const ModelPlan& plan, int index) {
  const Node& node = graph_.nodes[static_cast<size_t>(index)];
  const int before = index == 0 ? kModelInput : index - 1;
  if (node.sources.size() != 1 || node.sources[0] != before || node.layout != Layout::kRowMajor) return false;
  if (node.layer->is_view() || node.fused_into_source) return true;
  const LayerPlan& layer = plan.layers[static_cast<size_t>(node.index)];
  const auto trained = [](const ParameterPlan& p) { return p.trainable; };
  if (node.is_copy || layer.kind != "dense" || !std::ranges::all_of(layer.parameters, trained)) return false;
  // One product for each sample, not for each of several rows of it.
  if (layer.output.rank() != 1 || layer.input.rank() != 1) return false;
  dense_.push_back(static_cast<size_t>(index));
  return true;
}

bool ModelChain::Run(Device& device, const Tensors& tensors, const Batch& batch, double scale, Tensor gradient,
                     Tensor stats) {
  if (batch.rows == refused_rows_) return false;
  for (size_t i = 0; i < dense_.size(); ++i) {
    const Node& node = graph_.nodes[dense_[i]];
    const size_t kernel = node.first_parameter, bias = kernel + 1;
    const bool has_bias = node.parameter_count > 1;
    layers_[i] = {.kernel = tensors.parameters[kernel],
                  .bias = has_bias ? tensors.parameters[bias] : Tensor{},
                  .activation = node.fused_activation,
                  .y = node.calls[0].y,
                  .dkernel = tensors.gradients[kernel],
                  .dbias = has_bias ? tensors.gradients[bias] : Tensor{}};
  }
  const int hits = objective_.hits_slot();
  const auto sum = [&](int slot) { return Tensor{stats.as<double>() + slot, Shape{1}, DType::kF64}; };
  const Tensor& x = graph_.nodes[dense_.front()].calls[0].x[0];
  const DenseChain chain{.x = x,
                         .layers = layers_,
                         .gradient = gradient,
                         .loss = *objective_.loss().softmax_crossentropy(),
                         .targets = batch.targets,
                         .scale = scale,
                         .loss_sum = sum(0),
                         .hits = hits < 0 ? Tensor{} : sum(hits)};
  if (!device.TakesDenseChain(chain)) {
    refused_rows_ = batch.rows;
    return false;
  }
  device.RunDenseChain(chain);
  objective_.CountOthers(device, layers_.back().y, batch.targets, stats);
  return true;
}

}  // namespace lockstep
