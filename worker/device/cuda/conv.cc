// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv.h"

#include <initializer_list>
#include <optional>

#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/conv_geometry.h"
#include "worker/device/cuda/conv_graph.h"
#include "worker/device/cuda/conv_kernels.h"
#include "worker/device/cuda/conv_legacy.h"
#include "worker/device/cuda/gemm.h"
#include "worker/device/cuda/gemm_plan.h"
#include "worker/device/cuda/images.h"

namespace lockstep::cuda {

// How one product is computed.
class ConvPlans::Plan {
 public:
  Plan(Context& context, const Request& request) : product_(ProductOf(request)) {
    const bool graph = request.layout == Layout::kImages && request.aligned;
    const ConvEpilogue wanted{.bias = request.bias, .relu = request.relu};
    if (graph && IsRounded(product_.precision)) MakeGraph(context, FactorTypeOf(product_.precision), wanted);
    // As TF32, which holds them exactly.
    if (graph && graph_ == nullptr && product_.precision != ProductPrecision::kFloat) {
      MakeGraph(context, DType::kF32, wanted);
    }
    if (graph_ == nullptr) legacy_.emplace(context, product_);
  }

  const ConvGeometry& geometry() const { return product_.geometry; }
  // False: cuDNN has no algorithm for it.
  bool usable() const { return graph_ != nullptr || legacy_->usable(); }
  // What is done behind a forward pass without the caller.
  const ConvEpilogue& done() const { return done_; }
  // What both factors are, or are copied into.
  DType factor_type() const { return factor_type_; }

  // Forward: x, kernel, y. Input: dy, kernel, dx. Kernel: x, dy, dkernel.
  void Run(Context& context, const void* first, const void* second, const float* bias, float* out) const {
    if (graph_ != nullptr) return graph_->Run(context, first, second, bias, out);
    legacy_->Run(context, static_cast<const float*>(first), static_cast<const float*>(second), out);
  }

 private:
  static ConvProduct ProductOf(const Request& request) {
    return {.pass = request.pass,
            .layout = request.layout,
            .geometry = ConvGeometryOf(request.args, request.x, request.y, request.layout),
            .stride = request.args.stride,
            .dilation = request.args.dilation,
            .groups = request.args.groups,
            .precision = request.args.precision};
  }

  void MakeGraph(Context& context, DType type, const ConvEpilogue& wanted) {
    if (wanted.any()) graph_ = GraphConv::Make(context, product_, {.factors = type}, wanted);
    if (graph_ != nullptr) done_ = wanted;
    if (graph_ == nullptr) graph_ = GraphConv::Make(context, product_, {.factors = type}, {});
    if (graph_ != nullptr) factor_type_ = type;
  }

  const ConvProduct product_;
  DType factor_type_ = DType::kF32;
  std::unique_ptr<GraphConv> graph_;
  std::optional<LegacyConv> legacy_;
  ConvEpilogue done_;
};

ConvPlans::ConvPlans() = default;
ConvPlans::~ConvPlans() = default;

ConvPlans::Plan& ConvPlans::Find(Context& context, const Request& request) {
  const WindowArgs& args = request.args;
  key_.clear();
  key_.insert(key_.end(), {static_cast<int64_t>(request.pass), static_cast<int64_t>(request.layout),
                           static_cast<int64_t>(args.precision), args.groups, request.bias ? 1 : 0,
                           request.relu ? 1 : 0, request.aligned ? 1 : 0});
  for (const Shape* shape : {&request.x, &request.kernel, &request.y}) {
    key_.insert(key_.end(), shape->dims().begin(), shape->dims().end());
  }
  for (const auto* pair : {&args.stride, &args.dilation, &args.pad_begin, &args.pad_end}) {
    key_.insert(key_.end(), pair->begin(), pair->end());
  }
  const auto found = plans_.find(key_);
  if (found != plans_.end()) return *found->second;
  return *plans_.emplace(key_, std::make_unique<Plan>(context, request)).first->second;
}

namespace {

bool Aligned(const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data) % 16 == 0; }

// Scratch memory for a factor of so many elements; null: no memory, which is noted.
void* FactorMemory(Context& context, DType type, Slot slot, int64_t elements) {
  const size_t size = type == DType::kF32 ? sizeof(float) : sizeof(uint16_t);
  return context.Scratch<char>(slot, static_cast<size_t>(elements) * size);
}

// The factor as the product reads it: itself, or rounded in the slot.
const void* Rounded(Context& context, const WindowArgs& args, DType type, const Tensor& t, Slot slot) {
  if (!IsRounded(args.precision)) return t.data;
  void* const rounded = FactorMemory(context, type, slot, t.elements());
  if (rounded == nullptr) return nullptr;
  if (type == DType::kF32) {
    RoundToFloats(context, args.precision, t.as<float>(), t.elements(), static_cast<float*>(rounded));
  } else {
    RoundFactor(context, args.precision, t.as<float>(), t.elements(), rounded);
  }
  return rounded;
}

// The images as the plan wants them.
const void* Images(Context& context, const ConvPlans::Plan& plan, const WindowArgs& args, const Tensor& x) {
  const ConvGeometry& g = plan.geometry();
  const DType type = plan.factor_type();
  if (!g.copied) return Rounded(context, args, type, x, Slot::kLeft);
  void* const copy = FactorMemory(context, type, Slot::kLeft, g.library_images());
  if (copy == nullptr) return nullptr;
  if (x.layout == Layout::kImages) {
    PackImages(context, g, args.precision, type, x.as<float>(), copy);
  } else {
    PadImages(context, g, args.precision, x.as<float>(), static_cast<float*>(copy));
  }
  return copy;
}

const void* Kernel(Context& context, const ConvPlans::Plan& plan, const WindowArgs& args, Layout layout,
                   const Tensor& kernel) {
  const DType type = plan.factor_type();
  if (layout == Layout::kRowMajor) return Rounded(context, args, type, kernel, Slot::kRight);
  void* const copy = FactorMemory(context, type, Slot::kRight, plan.geometry().library_kernel());
  if (copy != nullptr) PackKernel(context, plan.geometry(), args.precision, type, kernel.as<float>(), copy);
  return copy;
}

// The same numbers row-major in the slot, or memory for them.
Tensor RowMajorLike(Context& context, const Tensor& images, Slot slot) {
  Tensor rows = images;
  rows.layout = Layout::kRowMajor;
  rows.data = context.Scratch<float>(slot, static_cast<size_t>(images.elements()));
  return rows;
}
Tensor InRows(Context& context, const Tensor& images, Slot slot) {
  const Tensor rows = RowMajorLike(context, images, slot);
  if (rows.data != nullptr) Relayout(context, images, rows);
  return rows;
}

// Rounded in the slot, or as it is; null data: no memory.
Tensor InFloats(Context& context, const WindowArgs& args, Tensor factor, Slot slot) {
  factor.data = const_cast<void*>(Rounded(context, args, DType::kF32, factor, slot));
  return factor;
}

// y = x * kernel, and what is said of bias and activation, which is what the answer says.
ConvEpilogue ForwardProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& x,
                            const Tensor& kernel, const Tensor& bias, bool relu, const Tensor& y) {
  if (x.type == DType::kF64) {
    DirectForward(context, args, x, kernel, y);
    return {};
  }
  const ConvPlans::Plan& plan = plans.Find(context, {.pass = ConvPass::kForward,
                                                     .layout = x.layout,
                                                     .args = args,
                                                     .x = x.shape,
                                                     .kernel = kernel.shape,
                                                     .y = y.shape,
                                                     .bias = bias.data != nullptr,
                                                     .relu = relu,
                                                     .aligned = Aligned(x) && Aligned(y) && Aligned(bias)});
  if (plan.usable()) {
    const void* const images = Images(context, plan, args, x);
    const void* const weights = Kernel(context, plan, args, x.layout, kernel);
    if (images != nullptr && weights != nullptr) plan.Run(context, images, weights, bias.as<float>(), y.as<float>());
    return plan.done();
  }
  if (x.layout == Layout::kImages) {
    const Tensor rows = InRows(context, x, Slot::kFirstImages), out = RowMajorLike(context, y, Slot::kSecondImages);
    if (rows.data == nullptr || out.data == nullptr) return {};
    ForwardProduct(context, plans, args, rows, kernel, {}, false, out);
    Relayout(context, out, y);
    return {};
  }
  const Tensor images = InFloats(context, args, x, Slot::kLeft);
  const Tensor weights = InFloats(context, args, kernel, Slot::kRight);
  if (images.data != nullptr && weights.data != nullptr) DirectForward(context, args, images, weights, y);
  return {};
}

// dx as the plan leaves it, brought to where it belongs.
void RunInput(Context& context, const ConvPlans::Plan& plan, const void* gradient, const void* weights,
              const Tensor& dx) {
  const ConvGeometry& g = plan.geometry();
  if (!g.copied) return plan.Run(context, gradient, weights, nullptr, dx.as<float>());
  float* const copy = context.Scratch<float>(Slot::kOut, static_cast<size_t>(g.library_images()));
  if (copy == nullptr) return;
  plan.Run(context, gradient, weights, nullptr, copy);
  if (dx.layout == Layout::kImages) {
    UnpackImages(context, g, copy, dx.as<float>());
  } else {
    CropImages(context, g, copy, dx.as<float>());
  }
}

void InputProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& dy, const Tensor& kernel,
                  const Tensor& dx) {
  if (dx.type == DType::kF64) return DirectBackwardInput(context, args, dy, kernel, dx);
  const ConvPlans::Plan& plan = plans.Find(context, {.pass = ConvPass::kInput,
                                                     .layout = dx.layout,
                                                     .args = args,
                                                     .x = dx.shape,
                                                     .kernel = kernel.shape,
                                                     .y = dy.shape,
                                                     .aligned = Aligned(dy) && Aligned(dx)});
  if (plan.usable()) {
    const void* const gradient = Rounded(context, args, plan.factor_type(), dy, Slot::kLeft);
    const void* const weights = Kernel(context, plan, args, dx.layout, kernel);
    if (gradient != nullptr && weights != nullptr) RunInput(context, plan, gradient, weights, dx);
    return;
  }
  if (dx.layout == Layout::kImages) {
    const Tensor rows = InRows(context, dy, Slot::kFirstImages), out = RowMajorLike(context, dx, Slot::kSecondImages);
    if (rows.data == nullptr || out.data == nullptr) return;
    InputProduct(context, plans, args, rows, kernel, out);
    return Relayout(context, out, dx);
  }
  const Tensor gradient = InFloats(context, args, dy, Slot::kLeft);
  const Tensor weights = InFloats(context, args, kernel, Slot::kRight);
  if (gradient.data != nullptr && weights.data != nullptr) DirectBackwardInput(context, args, gradient, weights, dx);
}

void KernelProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& x, const Tensor& dy,
                   const Tensor& dkernel) {
  if (x.type == DType::kF64) return DirectBackwardKernel(context, args, x, dy, dkernel);
  const ConvPlans::Plan& plan = plans.Find(context, {.pass = ConvPass::kKernel,
                                                     .layout = x.layout,
                                                     .args = args,
                                                     .x = x.shape,
                                                     .kernel = dkernel.shape,
                                                     .y = dy.shape,
                                                     .aligned = Aligned(x) && Aligned(dy)});
  if (plan.usable()) {
    const void* const images = Images(context, plan, args, x);
    const void* const gradient = Rounded(context, args, plan.factor_type(), dy, Slot::kRight);
    if (images == nullptr || gradient == nullptr) return;
    if (x.layout == Layout::kRowMajor) return plan.Run(context, images, gradient, nullptr, dkernel.as<float>());
    float* const turned = context.Scratch<float>(Slot::kOut, static_cast<size_t>(plan.geometry().library_kernel()));
    if (turned == nullptr) return;
    plan.Run(context, images, gradient, nullptr, turned);
    return UnpackKernel(context, plan.geometry(), turned, dkernel.as<float>());
  }
  if (x.layout == Layout::kImages) {
    const Tensor rows = InRows(context, x, Slot::kFirstImages), of = InRows(context, dy, Slot::kSecondImages);
    if (rows.data != nullptr && of.data != nullptr) KernelProduct(context, plans, args, rows, of, dkernel);
    return;
  }
  const Tensor images = InFloats(context, args, x, Slot::kLeft);
  const Tensor gradient = InFloats(context, args, dy, Slot::kRight);
  if (images.data != nullptr && gradient.data != nullptr)
    DirectBackwardKernel(context, args, images, gradient, dkernel);
}

}  // namespace

void ConvForward(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias,
                 const ActivationArgs& activation, Tensor y) {
  if (y.elements() == 0) return;
  const bool relu = activation.kind == Activation::kRelu;
  const ConvEpilogue done = ForwardProduct(context, plans, args, x, kernel, bias, relu, y);
  PlaneBiasActivation(context, done.relu ? ActivationArgs{} : activation, done.bias ? Tensor{} : bias, y);
}

void ConvBackwardInput(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor dy, Tensor kernel,
                       const ActivationArgs& before, Tensor x, Tensor dx) {
  if (dx.elements() == 0) return;
  InputProduct(context, plans, args, dy, kernel, dx);
  if (!before.linear()) ActivationBackward(context, before, {}, x, dx, dx);
}

void ConvBackwardKernel(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel,
                        Tensor dbias) {
  // Of the gradient as it is: only products round.
  if (dbias.data != nullptr) PlaneBiasGradient(context, dy, dbias);
  KernelProduct(context, plans, args, x, dy, dkernel);
}

}  // namespace lockstep::cuda
