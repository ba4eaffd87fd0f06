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
#include "worker/device/cuda/images.h"

namespace lockstep::cuda {

// How one product is computed.
class ConvPlans::Plan {
 public:
  Plan(Context& context, const Request& request) : product_(ProductOf(request)) {
    const bool graph = request.layout == Layout::kImages && request.aligned;
    // There is none with ReLU and no bias; it is given zeros.
    const ConvEpilogue wanted{.bias = request.bias || request.relu, .relu = request.relu};
    if (IsFactor(request.type)) {
      // Of what is no image, floats are better where there is a choice.
      if (graph && request.pass == ConvPass::kKernel) MakeGraph(context, {.factors = request.type}, {});
      if (graph && graph_ == nullptr) MakeGraph(context, {.factors = request.type, .result = request.type}, wanted);
      return;
    }
    if (graph && product_.precision != ProductPrecision::kFloat) MakeGraph(context, {}, wanted);
    if (graph_ == nullptr) legacy_.emplace(context, product_);
  }

  const ConvGeometry& geometry() const { return product_.geometry; }
  // False: cuDNN has no algorithm for it.
  bool usable() const { return graph_ != nullptr || (legacy_.has_value() && legacy_->usable()); }
  // What is done behind a forward pass without the caller.
  const ConvEpilogue& done() const { return done_; }
  // What it reads and writes.
  const ConvTypes& types() const { return types_; }

  // Forward: x, kernel, y. Input: dy, kernel, dx. Kernel: x, dy, dkernel.
  void Run(Context& context, const void* first, const void* second, const void* bias, void* out) const {
    if (graph_ != nullptr) return graph_->Run(context, first, second, bias, out);
    legacy_->Run(context, static_cast<const float*>(first), static_cast<const float*>(second),
                 static_cast<float*>(out));
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

  void MakeGraph(Context& context, const ConvTypes& types, const ConvEpilogue& wanted) {
    if (wanted.any()) graph_ = GraphConv::Make(context, product_, types, wanted);
    if (graph_ != nullptr) done_ = wanted;
    if (graph_ == nullptr) graph_ = GraphConv::Make(context, product_, types, {});
    if (graph_ != nullptr) types_ = types;
  }

  const ConvProduct product_;
  ConvTypes types_;
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
                           static_cast<int64_t>(request.type), static_cast<int64_t>(args.precision), args.groups,
                           request.bias ? 1 : 0, request.relu ? 1 : 0, request.aligned ? 1 : 0});
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

// Scratch memory for so many elements; null: no memory, which is noted.
void* Memory(Context& context, DType type, Slot slot, int64_t elements) {
  return context.Scratch<char>(slot, static_cast<size_t>(elements) * SizeOf(type));
}

// The factor as the product reads it: itself, or rounded in the slot.
const void* Rounded(Context& context, const WindowArgs& args, const Tensor& t, Slot slot) {
  if (IsFactor(t.type) || !IsRounded(args.precision)) return t.data;
  auto* const rounded = static_cast<float*>(Memory(context, DType::kF32, slot, t.elements()));
  if (rounded != nullptr) RoundToFloats(context, args.precision, t.as<float>(), t.elements(), rounded);
  return rounded;
}

// The images as the plan wants them.
const void* Images(Context& context, const ConvPlans::Plan& plan, const WindowArgs& args, const Tensor& x) {
  const ConvGeometry& g = plan.geometry();
  if (!g.copied) return Rounded(context, args, x, Slot::kLeft);
  void* const copy = Memory(context, x.type, Slot::kLeft, g.library_images());
  if (copy == nullptr) return nullptr;
  if (x.layout == Layout::kImages) {
    PackImages(context, g, args.precision, x, copy);
  } else {
    PadImages(context, g, args.precision, x.as<float>(), static_cast<float*>(copy));
  }
  return copy;
}

// The kernel, and channels last the bias behind it. Null data: no memory.
struct Weights {
  const void* kernel = nullptr;
  const void* bias = nullptr;
};
Weights WeightsOf(Context& context, const ConvPlans::Plan& plan, const WindowArgs& args, Layout layout,
                  const Tensor& kernel, const Tensor& bias) {
  if (layout == Layout::kRowMajor) return {Rounded(context, args, kernel, Slot::kRight), nullptr};
  const ConvGeometry& g = plan.geometry();
  const DType type = plan.types().factors;
  void* const copy = Memory(context, type, Slot::kRight, g.library_kernel() + g.filters);
  if (copy == nullptr) return {};
  PackKernel(context, g, args.precision, type, kernel.as<float>(), bias.as<float>(), copy);
  return {copy, static_cast<const char*>(copy) + static_cast<size_t>(g.library_kernel()) * SizeOf(type)};
}

// Images of 16 bits as floats in the slot, or memory for them; null data: no memory.
Tensor WideLike(Context& context, Tensor images, Slot slot) {
  images.type = DType::kF32;
  images.data = Memory(context, images.type, slot, images.elements());
  return images;
}
Tensor Wide(Context& context, const Tensor& images, Slot slot) {
  const Tensor wide = WideLike(context, images, slot);
  if (wide.data != nullptr) WidenFactor(context, images, wide.as<float>());
  return wide;
}
void Narrow(Context& context, const WindowArgs& args, const Tensor& wide, const Tensor& images) {
  RoundFactor(context, args.precision, wide.as<float>(), wide.elements(), images.data);
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
  factor.data = const_cast<void*>(Rounded(context, args, factor, slot));
  return factor;
}

// y = x * kernel, and what is said of bias and activation, which is what the answer says.
ConvEpilogue ForwardProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& x,
                            const Tensor& kernel, const Tensor& bias, const ActivationArgs& activation,
                            const Tensor& y) {
  if (x.type == DType::kF64) {
    DirectForward(context, args, x, kernel, y);
    return {};
  }
  const ConvPlans::Plan& plan = plans.Find(context, {.pass = ConvPass::kForward,
                                                     .layout = x.layout,
                                                     .type = x.type,
                                                     .args = args,
                                                     .x = x.shape,
                                                     .kernel = kernel.shape,
                                                     .y = y.shape,
                                                     .bias = bias.data != nullptr,
                                                     .relu = activation.kind == Activation::kRelu,
                                                     .aligned = Aligned(x) && Aligned(y)});
  if (plan.usable()) {
    const void* const images = Images(context, plan, args, x);
    const Weights weights = WeightsOf(context, plan, args, x.layout, kernel, bias);
    if (images != nullptr && weights.kernel != nullptr) {
      plan.Run(context, images, weights.kernel, plan.done().bias ? weights.bias : nullptr, y.data);
    }
    return plan.done();
  }
  if (IsFactor(x.type)) {
    const Tensor wide = Wide(context, x, Slot::kWide), out = WideLike(context, y, Slot::kWideOut);
    if (wide.data == nullptr || out.data == nullptr) return {};
    // All of it, so that nothing is rounded on the way.
    ConvForward(context, plans, args, wide, kernel, bias, activation, out);
    Narrow(context, args, out, y);
    return {.bias = true, .relu = true};
  }
  if (x.layout == Layout::kImages) {
    const Tensor rows = InRows(context, x, Slot::kFirstImages), out = RowMajorLike(context, y, Slot::kSecondImages);
    if (rows.data == nullptr || out.data == nullptr) return {};
    ForwardProduct(context, plans, args, rows, kernel, {}, {}, out);
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
  if (!g.copied) return plan.Run(context, gradient, weights, nullptr, dx.data);
  void* const copy = Memory(context, dx.type, Slot::kOut, g.library_images());
  if (copy == nullptr) return;
  plan.Run(context, gradient, weights, nullptr, copy);
  if (dx.layout == Layout::kImages) {
    UnpackImages(context, g, copy, dx);
  } else {
    CropImages(context, g, static_cast<const float*>(copy), dx.as<float>());
  }
}

void InputProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& dy, const Tensor& kernel,
                  const Tensor& dx) {
  if (dx.type == DType::kF64) return DirectBackwardInput(context, args, dy, kernel, dx);
  const ConvPlans::Plan& plan = plans.Find(context, {.pass = ConvPass::kInput,
                                                     .layout = dx.layout,
                                                     .type = dx.type,
                                                     .args = args,
                                                     .x = dx.shape,
                                                     .kernel = kernel.shape,
                                                     .y = dy.shape,
                                                     .aligned = Aligned(dy) && Aligned(dx)});
  if (plan.usable()) {
    const void* const gradient = Rounded(context, args, dy, Slot::kLeft);
    const Weights weights = WeightsOf(context, plan, args, dx.layout, kernel, {});
    if (gradient != nullptr && weights.kernel != nullptr) RunInput(context, plan, gradient, weights.kernel, dx);
    return;
  }
  if (IsFactor(dx.type)) {
    const Tensor wide = Wide(context, dy, Slot::kWide), out = WideLike(context, dx, Slot::kWideOut);
    if (wide.data == nullptr || out.data == nullptr) return;
    InputProduct(context, plans, args, wide, kernel, out);
    return Narrow(context, args, out, dx);
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
                                                     .type = x.type,
                                                     .args = args,
                                                     .x = x.shape,
                                                     .kernel = dkernel.shape,
                                                     .y = dy.shape,
                                                     .aligned = Aligned(x) && Aligned(dy)});
  if (plan.usable()) {
    const void* const images = Images(context, plan, args, x);
    const void* const gradient = Rounded(context, args, dy, Slot::kRight);
    if (images == nullptr || gradient == nullptr) return;
    if (x.layout == Layout::kRowMajor) return plan.Run(context, images, gradient, nullptr, dkernel.data);
    const DType type = plan.types().result;
    void* const turned = Memory(context, type, Slot::kOut, plan.geometry().library_kernel());
    if (turned == nullptr) return;
    plan.Run(context, images, gradient, nullptr, turned);
    return UnpackKernel(context, plan.geometry(), type, turned, dkernel.as<float>());
  }
  if (IsFactor(x.type)) {
    const Tensor images = Wide(context, x, Slot::kWide), gradient = Wide(context, dy, Slot::kWideOut);
    if (images.data != nullptr && gradient.data != nullptr)
      KernelProduct(context, plans, args, images, gradient, dkernel);
    return;
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
  const ConvEpilogue done = ForwardProduct(context, plans, args, x, kernel, bias, activation, y);
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
  // Of the gradient as it is: only products round factors.
  if (dbias.data != nullptr) PlaneBiasGradient(context, dy, dbias);
  KernelProduct(context, plans, args, x, dy, dkernel);
}

}  // namespace lockstep::cuda
