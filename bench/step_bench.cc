// SPDX-License-Identifier: Apache-2.0
// Samples per second of forward, backward and update on one core, and the matrix product alone.
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "common/model/model_plan.h"
#include "worker/device/cpu/cpu_sparse_gemm.h"
#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"

namespace lockstep {
namespace {

v1::ModelSpec Mlp(const std::vector<int64_t>& widths, const std::string& activation, double dropout) {
  v1::ModelSpec spec;
  for (size_t i = 1; i < widths.size(); ++i) {
    v1::DenseLayer* dense = spec.add_layers()->mutable_dense();
    dense->set_units(widths[i]);
    if (i + 1 == widths.size()) continue;
    dense->set_activation(activation);
    if (dropout > 0) spec.add_layers()->mutable_dropout()->set_rate(dropout);
  }
  return spec;
}

// Memory that lives as long as the benchmark.
class Memory {
 public:
  explicit Memory(Device* device) : device_(device) {}
  Tensor Take(const Shape& shape, DType type) {
    const auto bytes = static_cast<size_t>(shape.elements()) * SizeOf(type);
    buffers_.push_back(device_->Allocate(bytes).value());
    return {buffers_.back()->data(), shape, type};
  }

 private:
  Device* device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Of the step: `check_share` and `update_share` are what looking for numbers that are not finite and the optimizer
// take of the processor's time; the rest is forward and backward.
void RunModel(benchmark::State& state, const v1::ModelSpec& spec, const Shape& sample,
              const v1::OptimizerSpec& optimizer_spec, ProductPrecision precision = ProductPrecision::kFloat) {
  const int64_t rows = state.range(0);
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  Violations violations;
  const ModelPlan plan = PlanModel(spec, sample, violations);
  v1::LossSpec loss;
  loss.mutable_sparse_categorical_crossentropy()->set_from_logits(true);
  const auto model = Model::Create(device.get(), plan, loss, DType::kF32, rows, {}, 1, precision).value();
  model->Initialize(1);
  const int64_t elements = model->parameters().elements();
  const auto optimizer = MakeOptimizer(optimizer_spec, *device, elements, DType::kF32).value();
  Memory memory(device.get());
  std::vector<int64_t> dims{rows};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  Batch batch{memory.Take(Shape(dims), DType::kF32), memory.Take({rows}, DType::kI32), rows};
  device->RandomUniform(batch.inputs, {.seed = 2}, 0.0, 1.0);
  for (int64_t i = 0; i < rows; ++i) batch.targets.as<int32_t>()[i] = static_cast<int32_t>(i % plan.output.elements());
  const Tensor gradient = memory.Take({elements}, DType::kF32);
  const Tensor stats = memory.Take({model->stats_width()}, DType::kF64), flag = memory.Take({1}, DType::kF64);
  StepContext context{.device = device.get(), .training = true, .seed = 1};
  double update = 0, check = 0;
  const double began = CpuSeconds();
  for (auto _ : state) {
    model->ForwardBackward(context, batch, 1.0 / static_cast<double>(rows), gradient, stats, nullptr);
    const double computed = CpuSeconds();
    device->CheckFinite(gradient, flag);
    const double checked = CpuSeconds();
    optimizer->Step(*device, model->parameters(), gradient, 0.001, context.step++);
    benchmark::ClobberMemory();
    update += CpuSeconds() - checked;
    check += checked - computed;
  }
  const double all = CpuSeconds() - began;
  state.counters["check_share"] = check / all;
  state.counters["update_share"] = update / all;
  state.SetItemsProcessed(state.iterations() * rows);
  state.SetLabel(device->Description());
}

void RunStep(benchmark::State& state, const std::vector<int64_t>& widths, const std::string& activation, double dropout,
             const v1::OptimizerSpec& optimizer_spec, ProductPrecision precision = ProductPrecision::kFloat) {
  RunModel(state, Mlp(widths, activation, dropout), Shape{widths.front()}, optimizer_spec, precision);
}

v1::OptimizerSpec Sgd() {
  v1::OptimizerSpec spec;
  spec.mutable_sgd();
  return spec;
}

v1::OptimizerSpec Adam() {
  v1::OptimizerSpec spec;
  spec.mutable_adam();
  return spec;
}

v1::OptimizerSpec Momentum() {
  v1::OptimizerSpec spec;
  spec.mutable_sgd()->set_momentum(0.9);
  return spec;
}

void BM_Step_784_16_16_10(benchmark::State& state) { RunStep(state, {784, 16, 16, 10}, "relu", 0, Sgd()); }
void BM_Step_784_16_16_10_Sigmoid(benchmark::State& state) { RunStep(state, {784, 16, 16, 10}, "sigmoid", 0, Sgd()); }
void BM_Step_784_16_16_10_Dropout(benchmark::State& state) { RunStep(state, {784, 16, 16, 10}, "relu", 0.2, Sgd()); }
void BM_Step_784_16_16_10_Adam(benchmark::State& state) { RunStep(state, {784, 16, 16, 10}, "relu", 0, Adam()); }
void BM_Step_784_128_10(benchmark::State& state) { RunStep(state, {784, 128, 10}, "relu", 0, Sgd()); }
void BM_Step_784_512_512_10(benchmark::State& state) { RunStep(state, {784, 512, 512, 10}, "relu", 0, Sgd()); }
BENCHMARK(BM_Step_784_16_16_10)->Arg(10)->Arg(32)->Arg(128);
BENCHMARK(BM_Step_784_16_16_10_Sigmoid)->Arg(32);
BENCHMARK(BM_Step_784_16_16_10_Dropout)->Arg(32);
BENCHMARK(BM_Step_784_16_16_10_Adam)->Arg(32);
BENCHMARK(BM_Step_784_128_10)->Arg(32)->Arg(128);
BENCHMARK(BM_Step_784_512_512_10)->Arg(128);

// {batch, 1 for products in BF16}.
ProductPrecision PrecisionOf(const benchmark::State& state) {
  return state.range(1) != 0 ? ProductPrecision::kBf16 : ProductPrecision::kFloat;
}
void BM_Mixed_784_128_10(benchmark::State& state) {
  RunStep(state, {784, 128, 10}, "relu", 0, Sgd(), PrecisionOf(state));
}
void BM_Mixed_784_1024_1024_10(benchmark::State& state) {
  RunStep(state, {784, 1024, 1024, 10}, "relu", 0, Adam(), PrecisionOf(state));
}
void BM_Mixed_784_4096_4096_4096_10(benchmark::State& state) {
  RunStep(state, {784, 4096, 4096, 4096, 10}, "relu", 0, Momentum(), PrecisionOf(state));
}
BENCHMARK(BM_Mixed_784_128_10)->ArgsProduct({{128}, {0, 1}});
BENCHMARK(BM_Mixed_784_1024_1024_10)->ArgsProduct({{256}, {0, 1}})->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Mixed_784_4096_4096_4096_10)->ArgsProduct({{512}, {0, 1}})->Unit(benchmark::kMillisecond)->Iterations(3);

void AddConvolution(v1::ModelSpec& spec, int64_t filters, int64_t size, v1::Padding padding) {
  v1::Conv2dLayer* conv = spec.add_layers()->mutable_conv2d();
  conv->set_filters(filters);
  conv->add_kernel_size(size);
  conv->set_padding(padding);
  conv->set_activation("relu");
}

void AddDense(v1::ModelSpec& spec, int64_t units, const std::string& activation) {
  v1::DenseLayer* dense = spec.add_layers()->mutable_dense();
  dense->set_units(units);
  if (!activation.empty()) dense->set_activation(activation);
}

// The networks of examples/lenet5-mnist.yaml and examples/vgg-small-cifar10.yaml.
v1::ModelSpec LeNet5() {
  v1::ModelSpec spec;
  AddConvolution(spec, 6, 5, v1::PADDING_SAME);
  spec.add_layers()->mutable_max_pooling2d();
  AddConvolution(spec, 16, 5, v1::PADDING_VALID);
  spec.add_layers()->mutable_max_pooling2d();
  spec.add_layers()->mutable_flatten();
  AddDense(spec, 120, "relu");
  AddDense(spec, 84, "relu");
  AddDense(spec, 10, "");
  return spec;
}

v1::ModelSpec SmallVgg() {
  v1::ModelSpec spec;
  for (const int64_t filters : {32, 64}) {
    AddConvolution(spec, filters, 3, v1::PADDING_SAME);
    AddConvolution(spec, filters, 3, v1::PADDING_SAME);
    spec.add_layers()->mutable_max_pooling2d();
  }
  spec.add_layers()->mutable_flatten();
  AddDense(spec, 256, "relu");
  AddDense(spec, 10, "");
  return spec;
}

void BM_Step_LeNet5(benchmark::State& state) { RunModel(state, LeNet5(), Shape{1, 28, 28}, Adam()); }
void BM_Step_SmallVgg(benchmark::State& state) { RunModel(state, SmallVgg(), Shape{3, 32, 32}, Adam()); }
void BM_Step_SmallVgg_Bf16(benchmark::State& state) {
  RunModel(state, SmallVgg(), Shape{3, 32, 32}, Adam(), ProductPrecision::kBf16);
}
BENCHMARK(BM_Step_LeNet5)->Arg(64)->Arg(128)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Step_SmallVgg)->Arg(128)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Step_SmallVgg_Bf16)->Arg(128)->Unit(benchmark::kMillisecond);

// One update of so many weights; items are weights. The pass is bound by memory.
void RunUpdate(benchmark::State& state, const v1::OptimizerSpec& spec) {
  const int64_t elements = state.range(0);
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const auto optimizer = MakeOptimizer(spec, *device, elements, DType::kF32).value();
  Memory memory(device.get());
  const Tensor weights = memory.Take({elements}, DType::kF32), gradient = memory.Take({elements}, DType::kF32);
  device->RandomUniform(weights, {.seed = 5}, -1.0, 1.0);
  device->RandomUniform(gradient, {.seed = 6}, -1.0, 1.0);
  optimizer->Begin(*device, weights);
  int64_t step = 0;
  for (auto _ : state) {
    optimizer->Step(*device, weights, gradient, 1e-6, step++);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * elements);
}

v1::OptimizerSpec ClippedAverage() {
  v1::OptimizerSpec spec = Adam();
  spec.set_global_clip_norm(1);
  spec.set_use_ema(true);
  return spec;
}

v1::OptimizerSpec Lamb() {
  v1::OptimizerSpec spec;
  spec.mutable_lamb();
  return spec;
}

void BM_Update_Sgd(benchmark::State& state) { RunUpdate(state, Sgd()); }
void BM_Update_Momentum(benchmark::State& state) { RunUpdate(state, Momentum()); }
void BM_Update_Adam(benchmark::State& state) { RunUpdate(state, Adam()); }
void BM_Update_Adam_ClippedAverage(benchmark::State& state) { RunUpdate(state, ClippedAverage()); }
void BM_Update_Lamb(benchmark::State& state) { RunUpdate(state, Lamb()); }
BENCHMARK(BM_Update_Sgd)->Arg(100'000)->Arg(8'000'000);
BENCHMARK(BM_Update_Momentum)->Arg(100'000)->Arg(8'000'000);
BENCHMARK(BM_Update_Adam)->Arg(100'000)->Arg(8'000'000);
BENCHMARK(BM_Update_Adam_ClippedAverage)->Arg(100'000)->Arg(8'000'000);
BENCHMARK(BM_Update_Lamb)->Arg(100'000)->Arg(8'000'000);

// {m, n, k, transpose_a, transpose_b, 1 for BF16}; items are floating-point operations.
void BM_Gemm(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const GemmArgs args{.transpose_a = state.range(3) != 0,
                      .transpose_b = state.range(4) != 0,
                      .precision = state.range(5) != 0 ? ProductPrecision::kBf16 : ProductPrecision::kFloat};
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  Memory memory(device.get());
  const Tensor a = memory.Take(args.transpose_a ? Shape{k, m} : Shape{m, k}, DType::kF32);
  const Tensor b = memory.Take(args.transpose_b ? Shape{n, k} : Shape{k, n}, DType::kF32);
  const Tensor out = memory.Take({m, n}, DType::kF32);
  device->RandomUniform(a, {.seed = 3}, -1.0, 1.0);
  device->RandomUniform(b, {.seed = 4}, -1.0, 1.0);
  for (auto _ : state) {
    device->Gemm(args, a, b, {}, out);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 2 * m * n * k);
}
BENCHMARK(BM_Gemm)
    ->Args({10, 16, 784, 0, 0, 0})
    ->Args({784, 16, 10, 1, 0, 0})
    ->Args({5, 16, 784, 0, 0, 0})
    ->Args({784, 16, 5, 1, 0, 0})
    ->Args({10, 16, 16, 0, 1, 0})
    ->Args({16, 10, 10, 1, 0, 0})
    ->Args({32, 16, 784, 0, 0, 0})
    ->Args({784, 16, 32, 1, 0, 0})
    ->Args({32, 128, 784, 0, 0, 0})
    ->Args({784, 128, 32, 1, 0, 0})
    ->Args({32, 128, 10, 0, 1, 0})
    ->Args({128, 128, 784, 0, 0, 0})
    ->Args({784, 128, 128, 1, 0, 0})
    ->Args({128, 512, 784, 0, 0, 0})
    ->Args({128, 512, 512, 0, 1, 0})
    ->Args({784, 512, 128, 1, 0, 0})
    ->Args({512, 512, 512, 0, 0, 0});
// The products of large steps: forward, the kernel's gradient, the input's.
BENCHMARK(BM_Gemm)
    ->Name("BM_LargeGemm")
    ->ArgsProduct({{256}, {1024}, {1024}, {0}, {0}, {0, 1}})
    ->ArgsProduct({{1024}, {1024}, {256}, {1}, {0}, {0, 1}})
    ->ArgsProduct({{256}, {1024}, {1024}, {0}, {1}, {0, 1}})
    ->ArgsProduct({{512}, {4096}, {4096}, {0}, {0}, {0, 1}})
    ->ArgsProduct({{4096}, {4096}, {512}, {1}, {0}, {0, 1}})
    ->ArgsProduct({{512}, {4096}, {4096}, {0}, {1}, {0, 1}});

// {m, n, k, transpose_a, transpose_b, percent of `a` that is not zero, zeros are skipped, however few there are}
void BM_SparseGemm(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const GemmArgs args{.transpose_a = state.range(3) != 0, .transpose_b = state.range(4) != 0};
  KernelChoice kernels = ChooseKernels();
  if (state.range(6) != 0 && kernels.sparse == nullptr) return state.SkipWithError("needs AVX2");
  cpu::CpuSparseGemm sparse(kernels, 1);
  kernels.sparse = nullptr;
  const std::unique_ptr<Device> device = MakeCpuDeviceWith(kernels, 1);
  Memory memory(device.get());
  const Tensor a = memory.Take(args.transpose_a ? Shape{k, m} : Shape{m, k}, DType::kF32);
  const Tensor b = memory.Take(args.transpose_b ? Shape{n, k} : Shape{k, n}, DType::kF32);
  const Tensor out = memory.Take({m, n}, DType::kF32);
  device->RandomUniform(a, {.seed = 3}, 0.0, 1.0);
  device->RandomUniform(b, {.seed = 4}, -1.0, 1.0);
  const float limit = 0.01f * static_cast<float>(state.range(5));
  for (int64_t i = 0; i < m * k; ++i) a.as<float>()[i] = a.as<float>()[i] < limit ? a.as<float>()[i] : 0;
  for (auto _ : state) {
    state.range(6) != 0 ? sparse.Run(args, a, b, {}, out) : device->Gemm(args, a, b, {}, out);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 2 * m * n * k);
}
BENCHMARK(BM_SparseGemm)
    ->ArgsProduct({{32, 128}, {128}, {784}, {0}, {0}, {19}, {0, 1}})
    ->ArgsProduct({{784}, {128}, {32, 128}, {1}, {0}, {19}, {0, 1}})
    ->ArgsProduct({{256}, {1024}, {784}, {0}, {0}, {19, 50}, {0, 1}})
    ->ArgsProduct({{784}, {1024}, {256}, {1}, {0}, {19, 50}, {0, 1}})
    ->ArgsProduct({{256}, {1024}, {1024}, {0}, {0, 1}, {30, 50, 59}, {0, 1}})
    ->ArgsProduct({{1024}, {1024}, {256}, {1}, {0}, {30, 50, 59}, {0, 1}})
    ->ArgsProduct({{512}, {4096}, {4096}, {0}, {0, 1}, {30, 50, 59}, {0, 1}})
    ->ArgsProduct({{4096}, {4096}, {512}, {1}, {0}, {30, 50, 59}, {0, 1}});

}  // namespace
}  // namespace lockstep
