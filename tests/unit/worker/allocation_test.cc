// SPDX-License-Identifier: Apache-2.0
// A step allocates nothing. A program of its own, because it replaces operator new.
#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <new>
#include <thread>

#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/sliced_update.h"

namespace {
std::atomic<int64_t> allocations{0};
void* Counted(size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(size_t bytes) { return Counted(bytes); }
void* operator new[](size_t bytes) { return Counted(bytes); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }

namespace lockstep {
namespace {

using conformance::FromText;

// `darkens`: most of the samples becomes zero on the way.
int64_t AllocationsOfTenSteps(const std::string& net, const std::string& optimizer_text, int64_t rows,
                              bool darkens = false) {
  const auto device = MakeCpuDevice(1);
  conformance::Arrays arrays(device.get());
  Violations violations;
  const ModelPlan plan = PlanModel(FromText<v1::ModelSpec>(net), {28, 28}, violations);
  const auto loss = FromText<v1::LossSpec>("sparse_categorical_crossentropy {}");
  const auto model = Model::Create(device.get(), plan, loss, DType::kF32, rows).value();
  const int64_t elements = model->parameters().elements();
  const auto optimizer =
      MakeOptimizer(FromText<v1::OptimizerSpec>(optimizer_text), *device, elements, DType::kF32).value();
  const Batch batch{arrays.Random({rows, 28, 28}, DType::kF32, 1), arrays.Labels(rows, 10), rows};
  const Tensor gradient = arrays.Zeros({elements}, DType::kF32), stats = arrays.Zeros({2}, DType::kF64);
  StepContext context{.device = device.get(), .training = true};
  int64_t before = 0;
  for (; context.step < 11; ++context.step) {
    if (context.step == 1) before = allocations;
    if (darkens && context.step == 5) std::fill_n(batch.inputs.as<float>(), batch.inputs.elements() * 4 / 5, 0.0F);
    double seconds = 0;
    model->ForwardBackward(context, batch, 0.01, gradient, stats, &seconds);
    optimizer->Step(*device, model->parameters(), gradient, 0.1, context.step);
    model->Evaluate(batch, stats);
  }
  return allocations - before;
}

TEST(AllocationTest, TheCounterCounts) {
  const int64_t before = allocations;
  // A new expression might be left out by the compiler.
  ::operator delete(::operator new(sizeof(int)));
  EXPECT_GT(allocations, before);
}

TEST(AllocationTest, AStepOfASmallNetAllocatesNothing) {
  EXPECT_EQ(AllocationsOfTenSteps("layers { flatten {} } layers { dense { units: 16 activation: 'relu' } } "
                                  "layers { dropout { rate: 0.2 } } layers { dense { units: 16 } } layers { tanh {} } "
                                  "layers { dense { units: 10 activation: 'softmax' } }",
                                  "adam {}", 32),
            0);
}

TEST(AllocationTest, AStepOfALargeBatchAllocatesNothing) {
  EXPECT_EQ(AllocationsOfTenSteps("layers { flatten {} } layers { dense { units: 128 activation: 'relu' } } "
                                  "layers { dense { units: 10 activation: 'softmax' } }",
                                  "sgd { momentum: 0.9 }", 256),
            0);
}

// Zeros are skipped from a step on that nobody foresees.
TEST(AllocationTest, AStepWhoseSamplesAreMostlyZeroAllocatesNothing) {
  EXPECT_EQ(AllocationsOfTenSteps("layers { flatten {} } layers { dense { units: 128 activation: 'relu' } } "
                                  "layers { dense { units: 10 activation: 'softmax' } }",
                                  "sgd {}", 128, true),
            0);
}

// More columns of the samples are empty in one batch than in another.
TEST(AllocationTest, AStepThatLeavesOutColumnsAllocatesNothing) {
  constexpr int64_t kRows = 10, kWidth = 28 * 28;
  const auto device = MakeCpuDevice(1);
  conformance::Arrays arrays(device.get());
  Violations violations;
  const ModelPlan plan =
      PlanModel(FromText<v1::ModelSpec>("layers { flatten {} } layers { dense { units: 20 } }"), {28, 28}, violations);
  const auto loss = FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }");
  const auto model = Model::Create(device.get(), plan, loss, DType::kF32, kRows).value();
  ASSERT_EQ(model->FormOfSamples(kRows), SampleForm::kColumns);
  const Tensor table = arrays.Zeros({kRows, kWidth}, DType::kU8), indices = arrays.Zeros({kRows}, DType::kI64);
  const Tensor gradient = arrays.Zeros({model->parameters().elements()}, DType::kF32);
  const Tensor stats = arrays.Zeros({2}, DType::kF64);
  Batch batch{arrays.Zeros({kRows, 28, 28}, DType::kF32), arrays.Labels(kRows, 20), kRows};
  std::array<uint16_t, kWidth> numbers{};
  ColumnList columns{.columns = numbers.data()};
  batch.inputs.columns = &columns;
  DeferredProduct deferred;
  StepContext context{.device = device.get(), .training = true, .deferred = &deferred};
  int64_t before = 0;
  for (; context.step < 10; ++context.step) {
    if (context.step == 2) before = allocations;
    std::fill_n(table.as<uint8_t>(), 70 * context.step, uint8_t{1});
    device->GatherColumns(table, indices, {}, &columns, batch.inputs.Reshaped({kRows, kWidth}));
    deferred = {};
    // Every other step's gradient is written.
    context.deferred = context.step % 2 == 0 ? &deferred : nullptr;
    model->ForwardBackward(context, batch, 0.01, gradient, stats, nullptr);
    ASSERT_EQ(deferred.x.data != nullptr, context.deferred != nullptr);
    if (context.deferred == nullptr) continue;
    device->StepColumns(0.1, deferred.x, deferred.dy, model->parameters().Reshaped({kWidth, 20}));
  }
  EXPECT_EQ(columns.count, 630);
  EXPECT_EQ(allocations - before, 0);
}

TEST(AllocationTest, WhateverTheOptimizerIsAskedForItAllocatesNothing) {
  for (const char* optimizer :
       {"adamw { amsgrad: true } global_clip_norm: 1 use_ema: true weight_decay_exclude: '*/bias'",
        "nadam {} gradient_accumulation_steps: 3 clip_value: 0.5", "adagrad {} clip_norm: 1",
        "rmsprop { centered: true momentum: 0.5 }", "lion {} weight_decay: 0.1", "lamb {} weight_decay: 0.1",
        "lars {}"}) {
    EXPECT_EQ(AllocationsOfTenSteps("layers { flatten {} } layers { dense { units: 16 activation: 'relu' } } "
                                    "layers { dense { units: 10 activation: 'softmax' } }",
                                    optimizer, 32),
              0)
        << optimizer;
  }
}

// Two ranks of a host that share the update of a network, from the sum of their gradients on.
TEST(AllocationTest, AStepWhoseUpdateIsSharedAllocatesNothing) {
  constexpr int kRanks = 2;
  const auto spec = FromText<v1::OptimizerSpec>("adam {}");
  auto group = MakeThreadGroup(kRanks);
  std::barrier<> meet(kRanks);
  int64_t before = 0, after = 0;
  const auto train = [&](int rank) {
    const auto device = MakeCpuDevice(1);
    Violations violations;
    const ModelPlan plan = PlanModel(FromText<v1::ModelSpec>("layers { dense { units: 384 activation: 'relu' } } "
                                                             "layers { dense { units: 384 } }"),
                                     {384}, violations);
    const auto model =
        Model::Create(device.get(), plan, FromText<v1::LossSpec>("mean_squared_error {}"), DType::kF32, 1);
    const int64_t elements = (*model)->parameters().elements();
    const auto update = SlicedUpdate::Create(group[rank].get(), spec, elements, 0).value();
    ASSERT_NE(update, nullptr);
    const auto optimizer =
        MakeOptimizer(spec, *device, elements, DType::kF32, {}, false, update->shared_state()).value();
    const auto reducer = TreeReducer::Create(group[rank].get(), kRanks, elements, 2).value();
    update->Use(device.get(), model->get(), optimizer.get(), reducer.get());
    for (int64_t step = 0; step < 11; ++step) {
      meet.arrive_and_wait();
      if (rank == 0 && step == 1) before = allocations;
      meet.arrive_and_wait();
      std::ranges::fill(reducer->shard_gradient(), 0.5F);
      reducer->CommitShard();
      ASSERT_TRUE(update->Sum().ok());
      ASSERT_TRUE(update->Step(true, 0.1, step).ok());
    }
    meet.arrive_and_wait();
    if (rank == 0) after = allocations;
    meet.arrive_and_wait();
    EXPECT_FALSE(update->damaged());
  };
  std::thread peer(train, 1);
  train(0);
  peer.join();
  EXPECT_EQ(after - before, 0);
}

}  // namespace
}  // namespace lockstep
