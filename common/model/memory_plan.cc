// SPDX-License-Identifier: Apache-2.0
#include "common/model/memory_plan.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/model/input_plan.h"

namespace lockstep {

namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kHalf = 2;
constexpr int64_t kDouble = sizeof(double);
// Each tensor starts on a 64-byte line of the flat array.
constexpr int64_t kLineFloats = 16;
constexpr int64_t kLineBytes = kLineFloats * kFloat;
constexpr int64_t kGpuWorkspace = int64_t{64} << 20;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

bool Is(std::string_view kind, std::initializer_list<std::string_view> kinds) {
  return std::ranges::find(kinds, kind) != kinds.end();
}

// What worker/nn's layers say of themselves.
bool IsView(std::string_view kind) { return Is(kind, {"flatten", "reshape", "linear"}); }
bool CanFuse(std::string_view kind) { return Is(kind, {"dense", "conv2d", "depthwise_conv2d", "batch_normalization"}); }
bool IsFusable(std::string_view kind) {
  return Is(kind, {"relu", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus"});
}
// Doubles for `rows` samples.
int64_t ScratchOf(const LayerPlan& layer, int64_t rows) {
  if (layer.kind == "batch_normalization") return 7 * layer.input[0];
  // GemmMaskElements: a bit for each output, rows on sixteen bytes.
  if (layer.kind == "dense") return rows * ((layer.output[0] + 127) / 128) * 2;
  if (layer.kind == "layer_normalization") {
    const v1::LayerNormalizationLayer& spec = layer.spec.layer_normalization();
    const int64_t given = spec.has_axis() ? spec.axis() : -1;
    int64_t repeats = 1;
    for (int i = 0; i < (given < 0 ? given + layer.input.rank() : given); ++i) repeats *= layer.input[i];
    return rows * repeats * 2;
  }
  if (layer.kind == "group_normalization") {
    const v1::GroupNormalizationLayer& spec = layer.spec.group_normalization();
    return rows * (spec.has_groups() ? spec.groups() : 32) * 2;
  }
  return 0;
}

bool IsTrained(const ParameterPlan& p) { return p.trainable || p.moving_momentum.has_value(); }

bool NormalisesOverBatch(const LayerPlan& layer) {
  const bool frozen = layer.spec.has_trainable() && !layer.spec.trainable();
  return layer.kind == "batch_normalization" && layer.spec.batch_normalization().synchronized() && !frozen;
}

// The loss does the last layer's work.
bool FusesLastLayer(const ModelPlan& model, const v1::LossSpec& loss) {
  const std::string_view last = model.layers.empty() ? std::string_view() : model.layers.back().kind;
  switch (loss.kind_case()) {
    case v1::LossSpec::kSparseCategoricalCrossentropy:
      return last == "softmax" && !loss.sparse_categorical_crossentropy().from_logits();
    case v1::LossSpec::kCategoricalCrossentropy:
      return last == "softmax" && !loss.categorical_crossentropy().from_logits();
    case v1::LossSpec::kBinaryCrossentropy:
      return last == "sigmoid" && !loss.binary_crossentropy().from_logits();
    default:
      return false;
  }
}

// A GPU keeps these channels last (worker/device/cuda/conv_geometry.h), and with them what reads nothing else.
bool IsImageConvolution(const LayerPlan& layer) {
  return layer.kind == "conv2d" && layer.spec.conv2d().groups() <= 1 && layer.output[0] % 8 == 0;
}
bool TakesAnyLayout(std::string_view kind) {
  return IsFusable(kind) || Is(kind, {"gelu", "silu", "batch_normalization", "add", "max_pooling2d",
                                      "average_pooling2d", "global_max_pooling2d", "global_average_pooling2d"});
}

// The memory of the graph (worker/nn/graph.h), without copies between layouts. `halves`: a GPU's products are of 16
// bits.
class Activations {
 public:
  Activations(const ModelPlan& model, size_t count, bool halves) : model_(model), nodes_(count), uses_(count, 0) {
    for (size_t i = 0; i < count; ++i) {
      for (const int source : model.layers[i].sources) {
        if (source != kModelInput) ++uses_[static_cast<size_t>(source)];
      }
    }
    for (size_t i = 0; i < count; ++i) Plan(i);
    for (size_t i = 0; halves && i < count; ++i) PlanFactors(i);
  }

  int64_t Bytes(int64_t rows, int64_t lanes) const {
    int64_t bytes = 0;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const Node& node = nodes_[i];
      const int64_t elements = rows * model_.layers[i].output.elements();
      const bool own_dy = !node.shares_dy && (node.wants_gradient || i + 1 == nodes_.size());
      if (node.is_factor && !node.shares_y && own_dy) {
        // Both where the floats of a model that is judged are.
        bytes += 2 * RoundUp(elements * kHalf, kLineBytes);
      } else {
        bytes += ((node.shares_y ? 0 : 1) + (own_dy ? 1 : 0)) * elements * kFloat;
      }
      bytes += ScratchOf(model_.layers[i], rows) * kDouble;
    }
    return bytes * lanes + Sums(rows);
  }

 private:
  struct Node {
    bool wants_gradient = false;
    bool shares_y = false;
    bool shares_dy = false;
    bool has_activation = false;
    bool is_factor = false;
  };

  void Plan(size_t i) {
    const LayerPlan& layer = model_.layers[i];
    Node& node = nodes_[i];
    node.wants_gradient = std::ranges::any_of(layer.parameters, IsTrained);
    for (const int source : layer.sources) {
      node.wants_gradient |= source != kModelInput && nodes_[static_cast<size_t>(source)].wants_gradient;
    }
    const int source = layer.sources[0];
    const bool only_use = source != kModelInput && uses_[static_cast<size_t>(source)] == 1;
    if (IsView(layer.kind)) {
      node.shares_y = true;
      node.shares_dy = only_use;
    } else if (layer.kind == "add") {
      node.shares_dy = only_use && nodes_[static_cast<size_t>(source)].wants_gradient;
    } else if (IsFusable(layer.kind) && only_use && !layer.merges) {
      Node& before = nodes_[static_cast<size_t>(source)];
      if (!CanFuse(model_.layers[static_cast<size_t>(source)].kind) || before.has_activation) return;
      before.has_activation = node.shares_y = node.shares_dy = true;
    }
  }

  // Images, and what a dense layer puts out for another alone, with relu or nothing behind it.
  void PlanFactors(size_t i) {
    const LayerPlan& layer = model_.layers[i];
    const auto is_factor = [&](int source) { return source != kModelInput && IsImage(static_cast<size_t>(source)); };
    nodes_[i].is_factor |=
        IsImageConvolution(layer) || (TakesAnyLayout(layer.kind) && std::ranges::any_of(layer.sources, is_factor));
    if (layer.kind != "dense" || layer.sources[0] == kModelInput) return;
    const auto given = static_cast<size_t>(layer.sources[0]);
    const bool fused = nodes_[given].shares_y && model_.layers[given].kind == "relu" && nodes_[given].wants_gradient;
    const size_t maker = fused ? static_cast<size_t>(model_.layers[given].sources[0]) : given;
    if (uses_[given] != 1 || model_.layers[maker].kind != "dense" || nodes_[maker].has_activation != fused) return;
    nodes_[given].is_factor = nodes_[maker].is_factor = true;
  }
  bool IsImage(size_t i) const { return nodes_[i].is_factor && model_.layers[i].kind != "dense"; }

  // For gradients that are added to others: as many as one layer needs at once, each of the largest's size.
  int64_t Sums(int64_t rows) const {
    std::vector<bool> reached(nodes_.size(), false);
    int64_t most = 0, largest = 0;
    for (size_t i = nodes_.size(); i-- > 0;) {
      int64_t added = 0;
      for (const int source : model_.layers[i].sources) {
        if (source == kModelInput || !nodes_[static_cast<size_t>(source)].wants_gradient) continue;
        if (reached[static_cast<size_t>(source)]) {
          ++added;
          const int64_t size = nodes_[static_cast<size_t>(source)].is_factor ? kHalf : kFloat;
          largest = std::max(largest, rows * model_.layers[static_cast<size_t>(source)].output.elements() * size);
        }
        reached[static_cast<size_t>(source)] = true;
      }
      most = std::max(most, added);
    }
    return most * largest;
  }

  const ModelPlan& model_;
  std::vector<Node> nodes_;
  std::vector<int> uses_;
};

int64_t OptimizerArrays(const v1::OptimizerSpec& spec) {
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kSgd:
      return spec.sgd().momentum() != 0 ? 1 : 0;
    case v1::OptimizerSpec::kAdam:
      return spec.adam().amsgrad() ? 3 : 2;
    case v1::OptimizerSpec::kAdamw:
      return spec.adamw().amsgrad() ? 3 : 2;
    case v1::OptimizerSpec::kNadam:
    case v1::OptimizerSpec::kLamb:
      return 2;
    case v1::OptimizerSpec::kRmsprop:
      return 1 + (spec.rmsprop().centered() ? 1 : 0) + (spec.rmsprop().momentum() != 0 ? 1 : 0);
    case v1::OptimizerSpec::kAdagrad:
    case v1::OptimizerSpec::kLion:
    case v1::OptimizerSpec::kLars:
      return 1;
    case v1::OptimizerSpec::KIND_NOT_SET:
      break;
  }
  return 0;
}

// Sums that a rank with these shards holds at once, and those that are left in the end (worker/comm/tree_plan.h).
struct Held {
  int64_t most = 0;
  int64_t left = 0;
};
Held HeldSums(int64_t rank, int64_t workers, int64_t shards) {
  std::vector<std::pair<int, int64_t>> stack;
  Held held;
  for (int64_t shard = rank * shards / workers; shard < (rank + 1) * shards / workers; ++shard) {
    stack.emplace_back(0, shard);
    held.most = std::max<int64_t>(held.most, static_cast<int64_t>(stack.size()));
    while (stack.size() >= 2) {
      const auto [level, index] = stack.back();
      const auto [level_before, index_before] = stack[stack.size() - 2];
      if (level != level_before || index_before % 2 != 0 || index != index_before + 1) break;
      stack.pop_back();
      stack.back() = {level + 1, index / 2};
    }
  }
  held.left = static_cast<int64_t>(stack.size());
  return held;
}

class Planner {
 public:
  Planner(const v1::JobSpec& spec, const JobPlan& plan, int rank, int workers)
      : spec_(spec), plan_(plan), rank_(rank), workers_(workers), shards_(std::max(1, plan.logical_shards)) {
    for (const LayerPlan& layer : plan.model.layers) {
      for (const ParameterPlan& p : layer.parameters) elements_ += RoundUp(p.shape.elements(), kLineFloats);
      whole_batch_ |= NormalisesOverBatch(layer);
    }
    owned_ = (rank_ + 1) * shards_ / workers_ - rank_ * shards_ / workers_;
    const int64_t batch = std::max<int64_t>(1, std::min(spec.training().batch_size(), plan.dataset.train_samples));
    shard_rows_ = (batch - 1) / shards_ + 1;
  }

  MemoryPlan Run() const {
    const bool gpu = OnGpu();
    return {.parameters = elements_ * kFloat + (HasFactors() ? Factors() : 0),
            .gradients = Gradients(gpu),
            .optimizer = Optimizer(),
            .activations = Outputs(),
            .workspace = gpu ? kGpuWorkspace : 0,
            .data = Data()};
  }

 private:
  bool OnGpu() const { return spec_.resources().device() == v1::DEVICE_CUDA; }
  bool HasFactors() const {
    const v1::Precision precision = spec_.training().precision();
    return OnGpu() && (precision == v1::PRECISION_MIXED_BFLOAT16 || precision == v1::PRECISION_MIXED_FLOAT16);
  }

  // What a GPU keeps of dense kernels in 16 bits, in one stretch.
  int64_t Factors() const {
    int64_t offset = 0, first = -1, end = 0;
    for (const LayerPlan& layer : plan_.model.layers) {
      for (size_t i = 0; i < layer.parameters.size(); ++i) {
        // They lie behind all others.
        if (layer.parameters[i].moving_momentum.has_value()) continue;
        const int64_t elements = layer.parameters[i].shape.elements();
        if (layer.kind == "dense" && i == 0) {
          if (first < 0) first = offset;
          end = offset + elements;
        }
        offset += RoundUp(elements, kLineFloats);
      }
    }
    return first < 0 ? 0 : (end - first) * kHalf;
  }

  int64_t Gradients(bool gpu) const {
    const int64_t bytes = elements_ * kFloat;
    int64_t all = HeldSums(rank_, workers_, shards_).most * bytes;
    if (whole_batch_) all += owned_ * bytes;
    if (!gpu || workers_ == 1) return all;
    // A slice of each of the others' sums.
    int64_t others = 0;
    for (int rank = 0; rank < workers_; ++rank) {
      if (rank != rank_) others += HeldSums(rank, workers_, shards_).left;
    }
    return all + others * bytes / workers_;
  }

  int64_t Optimizer() const {
    const v1::OptimizerSpec& spec = spec_.optimizer();
    const int64_t arrays = OptimizerArrays(spec) + (spec.gradient_accumulation_steps() > 1 ? 1 : 0) +
                           (spec.use_ema() ? 1 : 0) + (spec_.training().early_stopping().restore_best() ? 1 : 0);
    return arrays * elements_ * kFloat;
  }

  int64_t Outputs() const {
    const ModelPlan& model = plan_.model;
    const bool fused = FusesLastLayer(model, spec_.loss());
    const int64_t rows = std::max(shard_rows_, kEvaluationRows);
    const Activations graph(model, model.layers.size() - (fused ? 1 : 0), HasFactors());
    const int64_t prediction = fused ? rows * model.output.elements() * kFloat : 0;
    return graph.Bytes(rows, whole_batch_ ? std::max<int64_t>(1, owned_) : 1) + prediction;
  }

  int64_t Batch(int64_t rows) const {
    return rows * (plan_.dataset.sample.elements() * kFloat + plan_.dataset.target_width * kFloat +
                   static_cast<int64_t>(sizeof(int64_t)));
  }

  int64_t Data() const {
    const v1::DatasetSpec& spec = spec_.dataset();
    const DatasetInfo& info = plan_.dataset;
    const InputPlan input = FitInput(spec_, info, static_cast<int32_t>(shards_), owned_);
    if (spec.memory_limit_bytes() > 0) return input.bytes;
    // Bytes as they are in the file; numbers are four bytes wide.
    const int64_t value = spec.has_idx() || spec.has_cifar() ? 1 : kFloat;
    const int64_t held =
        (info.train_samples + info.test_samples) * (info.sample.elements() * value + info.target_width * kFloat);
    const bool made = spec.has_normalize() || !spec.augmentation().empty();
    const auto slots = [&](int64_t count, int64_t rows) {
      return count * BytesOfSlot(rows, info.sample.elements(), info.target_width).all;
    };
    int64_t batches = made ? slots(input.train_slots, shard_rows_) : Batch(shard_rows_);
    batches += spec.has_normalize() ? slots(input.test_slots, kEvaluationRows) : Batch(kEvaluationRows);
    // Layers that need the whole batch hold all of its shards.
    if (whole_batch_) batches += owned_ * Batch(shard_rows_);
    return held + batches;
  }

  const v1::JobSpec& spec_;
  const JobPlan& plan_;
  const int64_t rank_;
  const int64_t workers_;
  const int64_t shards_;
  int64_t owned_ = 1;
  int64_t shard_rows_ = 1;
  int64_t elements_ = 0;
  bool whole_batch_ = false;
};

}  // namespace

MemoryPlan PlanMemory(const v1::JobSpec& spec, const JobPlan& plan, int rank, int workers) {
  return Planner(spec, plan, rank, workers).Run();
}

std::vector<std::pair<std::string, int64_t>> MemoryParts(const MemoryPlan& plan) {
  return {{"parameters", plan.parameters},   {"gradients", plan.gradients}, {"optimizer", plan.optimizer},
          {"activations", plan.activations}, {"workspace", plan.workspace}, {"data", plan.data}};
}

std::string BytesText(int64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes, " bytes") : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string MemoryText(const MemoryPlan& plan) {
  std::string text = absl::StrCat(BytesText(plan.total()), " in all");
  const char* separator = ": ";
  for (const auto& [name, bytes] : MemoryParts(plan)) {
    absl::StrAppend(&text, std::exchange(separator, ", "), name, " ", BytesText(bytes));
  }
  return text;
}

}  // namespace lockstep
