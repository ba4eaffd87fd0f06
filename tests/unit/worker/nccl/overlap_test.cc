// SPDX-License-Identifier: Apache-2.0
// Gradients that travel over NCCL while backward goes on: a model on the device that is tested, and a group of GPUs
// that records and plays (fake_nccl.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/unit/worker/nccl/fake_nccl.h"
#include "worker/comm/nccl/nccl_reducer.h"
#include "worker/comm/tree_reduce.h"
#include "worker/nn/model.h"

namespace lockstep {
namespace {

using conformance::Arrays;
using conformance::FromText;
using conformance::MakeTestDevice;
using ::testing::ElementsAre;

constexpr int64_t kRows = 4;
constexpr int kShards = 4;

struct Net {
  std::string name;
  std::string layers;
  Shape input;
};
std::ostream& operator<<(std::ostream& out, const Net& net) { return out << net.name; }

// With padding behind each tensor, branches of unlike length, copies into other layouts, layers that backward does not
// reach or that are not trained, and moving statistics, which lie behind all else.
const Net kNets[] = {
    {"chain",
     "layers { dense { units: 33 activation: 'relu' } } layers { dense { units: 20 activation: 'tanh' } } "
     "layers { dense { units: 5 } }",
     {7}},
    {"branches",
     "layers { dense { units: 9 } name: 'a' } layers { dense { units: 11 activation: 'relu' } inputs: 'input' name: "
     "'b' } "
     "layers { dense { units: 9 } name: 'c' } layers { add {} inputs: 'a' inputs: 'c' } layers { dense { units: 5 } }",
     {7}},
    {"images",
     "layers { conv2d { filters: 6 kernel_size: 3 } } layers { batch_normalization {} } layers { relu {} } "
     "layers { conv2d { filters: 5 kernel_size: 3 } } layers { batch_normalization { scale: false } } "
     "layers { flatten {} } layers { dense { units: 5 } }",
     {2, 7, 7}},
    {"frozen",
     "layers { dense { units: 9 } trainable: false } layers { batch_normalization {} trainable: false } "
     "layers { dense { units: 9 } } layers { dense { units: 7 activation: 'relu' } trainable: false } "
     "layers { dense { units: 5 } }",
     {7}},
};

// A model with the batch of one shard.
struct Subject {
  Subject(const Net& net, int shard) : device(MakeTestDevice()), arrays(device.get()) {
    Violations violations;
    const ModelPlan plan = PlanModel(FromText<v1::ModelSpec>(net.layers), net.input, violations);
    EXPECT_TRUE(violations.empty());
    const auto loss = FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }");
    model = Model::Create(device.get(), plan, loss, DType::kF32, kRows).value();
    model->Initialize(5);
    Feed(net, shard);
    gradient = arrays.Zeros(model->parameters().shape, DType::kF32);
    stats = arrays.Zeros({model->stats_width()}, DType::kF64);
  }
  void Feed(const Net& net, int shard) {
    batch = {arrays.Random(conformance::Batched(kRows, net.input), DType::kF32, static_cast<uint64_t>(shard) + 1),
             arrays.Labels(kRows, 5), kRows};
  }
  void Backward(Tensor to, GradientWatcher* watcher) {
    model->ForwardBackward(
        {.device = device.get(), .training = true, .seed = 3, .batch_rows = kRows * kShards, .watcher = watcher}, batch,
        1.0 / (kRows * kShards), to, stats, nullptr);
  }

  std::unique_ptr<Device> device;
  Arrays arrays;
  std::unique_ptr<Model> model;
  Batch batch;
  Tensor gradient, stats;
};

// Keeps what the gradient is at each call.
class Keeper final : public GradientWatcher {
 public:
  explicit Keeper(Tensor gradient) : gradient_(gradient) {}
  void LayersDone(int layer) override {
    layers.push_back(layer);
    const float* const values = gradient_.as<float>();
    kept.emplace_back(values, values + gradient_.elements());
  }

  std::vector<int> layers;
  std::vector<std::vector<float>> kept;

 private:
  Tensor gradient_;
};

class OverlapTest : public ::testing::TestWithParam<Net> {};

TEST_P(OverlapTest, WhatIsSaidToBeDoneIsFinal) {
  Subject watched(GetParam(), 0), alone(GetParam(), 0);
  // What nothing writes must not be taken for a gradient.
  watched.device->Fill(watched.gradient, NAN);
  Keeper keeper(watched.gradient);
  watched.Backward(watched.gradient, &keeper);
  alone.Backward(alone.gradient, nullptr);
  ASSERT_FALSE(keeper.layers.empty());
  EXPECT_EQ(keeper.layers.back(), 0);
  const std::vector<ParameterView>& views = watched.model->parameter_views();
  const float* const expected = alone.gradient.as<float>();
  for (size_t call = 0; call < keeper.layers.size(); ++call) {
    if (call > 0) {
      EXPECT_LT(keeper.layers[call], keeper.layers[call - 1]);
    }
    for (size_t i = 0; i < views.size(); ++i) {
      if (views[i].layer < keeper.layers[call]) continue;
      // With the padding.
      const int64_t first = views[i].offset;
      const int64_t end = i + 1 < views.size() ? views[i + 1].offset : watched.gradient.elements();
      EXPECT_EQ(std::memcmp(keeper.kept[call].data() + first, expected + first,
                            static_cast<size_t>(end - first) * sizeof(float)),
                0)
          << views[i].name << " once layer " << keeper.layers[call] << " is done";
    }
  }
}

std::vector<GradientSpan> SpansOf(const Model& model) {
  std::vector<GradientSpan> spans;
  for (const ParameterView& view : model.parameter_views()) {
    spans.push_back({view.offset, view.shape.elements(), view.layer});
  }
  return spans;
}

// Has the model go layer by layer, and writes each backward between what a reducer enqueues.
struct Observer final : NodeObserver {
  void Done(Pass pass, int layer) override {
    if (pass == Pass::kBackward) log->push_back(absl::StrCat("backward of layer ", layer));
  }
  std::vector<std::string>* log = nullptr;
};

// Ranks of one thread, each with a model of its own, over a group that records.
class Ranks {
 public:
  // `each_layer`: else a device may do them at once.
  Ranks(const Net& net, int ranks, bool each_layer) : gpus(ranks), net_(net), each_layer_(each_layer) {
    for (int r = 0; r < ranks; ++r) {
      subjects.push_back(std::make_unique<Subject>(net, 0));
      groups_.push_back(*nccl::NcclGroup::Join(&nccl::FakeGpus::Api(), *nccl::NcclGroup::MakeId(nccl::FakeGpus::Api()),
                                               {.rank = r, .size = ranks, .clock = &clock_}));
      // Every layer is a bucket of its own, or nearly.
      auto made = nccl::NcclReducer::Create(groups_.back().get(), &gpus.ops(r),
                                            {.shards = kShards,
                                             .elements = subjects.back()->gradient.elements(),
                                             .scalars = 1,
                                             .spans = SpansOf(*subjects.back()->model),
                                             .buckets = {.elements = 1, .first_elements = 1},
                                             .whole_sum_elements = 0});
      EXPECT_TRUE(made.ok()) << made.status();
      reducers.push_back(std::move(*made));
    }
  }
  ~Ranks() {
    reducers.clear();
    groups_.clear();
  }
  void Step() {
    for (int r = 0; r < gpus.size(); ++r) {
      const ShardRange owned = OwnedShards(r, gpus.size(), kShards);
      for (int shard = owned.first; shard + 1 < owned.end; ++shard) {
        Compute(r, shard);
        // The device writes at once: what was enqueued before it must be done.
        ASSERT_TRUE(gpus.Play().ok());
      }
    }
    for (int r = 0; r < gpus.size(); ++r) {
      Compute(r, OwnedShards(r, gpus.size(), kShards).end - 1);
      ASSERT_TRUE(reducers[static_cast<size_t>(r)]->Finish().ok());
    }
    const absl::Status played = gpus.Play();
    ASSERT_TRUE(played.ok()) << played;
  }

  nccl::FakeGpus gpus;
  std::vector<std::unique_ptr<Subject>> subjects;
  std::vector<std::unique_ptr<nccl::NcclReducer>> reducers;

 private:
  struct Watcher final : GradientWatcher {
    void LayersDone(int layer) override { reducer->LayerDone(layer); }
    nccl::NcclReducer* reducer = nullptr;
  };
  void Compute(int r, int shard) {
    Subject& subject = *subjects[static_cast<size_t>(r)];
    nccl::NcclReducer& reducer = *reducers[static_cast<size_t>(r)];
    subject.Feed(net_, shard);
    Watcher watcher;
    watcher.reducer = &reducer;
    Observer observer;
    observer.log = &gpus.log(r);
    if (each_layer_) subject.model->set_observer(&observer);
    subject.Backward({reducer.shard_gradient(), subject.gradient.shape, DType::kF32}, &watcher);
    subject.model->set_observer(nullptr);
    *reducer.shard_scalars() = shard;
    ASSERT_TRUE(reducer.CommitShard().ok());
  }

  const Net net_;
  const bool each_layer_;
  FakeClock clock_;
  std::vector<std::unique_ptr<nccl::NcclGroup>> groups_;
};

// What the canonical tree makes of the same device's gradients.
std::vector<float> Expected(const Net& net, bool each_layer) {
  Subject subject(net, 0);
  Observer observer;
  std::vector<std::string> log;
  observer.log = &log;
  if (each_layer) subject.model->set_observer(&observer);
  const auto single = MakeSingleCommunicator();
  auto tree = *TreeReducer::Create(single.get(), kShards, subject.gradient.elements(), 0);
  for (int shard = 0; shard < kShards; ++shard) {
    subject.Feed(net, shard);
    subject.Backward(subject.gradient, nullptr);
    std::memcpy(tree->shard_gradient().data(), subject.gradient.data, subject.gradient.bytes());
    tree->CommitShard();
  }
  EXPECT_TRUE(tree->Finish().ok());
  return {tree->sum().begin(), tree->sum().end()};
}

TEST_P(OverlapTest, TheBitsAreThoseOfOneRank) {
  for (const bool each_layer : {true, false}) {
    const std::vector<float> expected = Expected(GetParam(), each_layer);
    for (const int count : {1, 2, 3, 4}) {
      Ranks ranks(GetParam(), count, each_layer);
      // Nothing of a step is left in the next.
      ranks.Step();
      ranks.Step();
      for (const auto& reducer : ranks.reducers) {
        EXPECT_EQ(std::memcmp(reducer->sum(), expected.data(), expected.size() * sizeof(float)), 0)
            << count << " ranks";
        EXPECT_EQ(*reducer->scalar_sums(), 6);
        EXPECT_EQ(*reducer->not_finite(), 0);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, OverlapTest, ::testing::ValuesIn(kNets), [](const auto& net) { return net.param.name; });

// Whether messages are under way before the backward of the layers in front is enqueued.
TEST(OverlapOrderTest, TheLastLayersGradientsLeaveBeforeTheFirstLayersBackward) {
  Ranks ranks(kNets[0], 4, /*each_layer=*/true);
  ranks.Step();
  std::vector<std::string> order;
  for (const std::string& text : ranks.gpus.log(1)) {
    if (text.starts_with("backward") || text.starts_with("gather")) order.push_back(text);
    if (text.starts_with("send")) order.emplace_back("exchange");
  }
  // Layers 1 and 3 are activations, whose gradients ride in the products of the layers behind; a bias and its kernel
  // are two buckets.
  EXPECT_THAT(order, ElementsAre("backward of layer 4", "exchange", "gather 32 floats",  //
                                 "backward of layer 2", "exchange", "gather 16 floats", "exchange", "gather 160 floats",
                                 "backward of layer 0", "exchange", "gather 16 floats", "exchange",
                                 "gather 64 floats, max 1 doubles"));
}

}  // namespace
}  // namespace lockstep
