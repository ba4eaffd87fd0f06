// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_graph.h"

#include <algorithm>
#include <array>
#include <span>

namespace lockstep::cuda {

namespace {

using Descriptor = cudnnBackendDescriptor_t;

// Names of the graph's tensors: the order of Run's arguments.
constexpr int64_t kFirst = 1, kSecond = 2, kBias = 3, kOut = 4, kProduct = 5, kShifted = 6;
constexpr int64_t kAlignment = 16;
// Of the heuristic's proposals, best first.
constexpr int64_t kMostEngines = 16;

// Sets attributes until one is refused; what is not supported is no error, there are other ways to compute it.
class Setter {
 public:
  explicit Setter(Descriptor descriptor) : descriptor_(descriptor) {}

  template <typename T>
  Setter& Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::span<const T> values) {
    ok_ = ok_ && descriptor_ != nullptr &&
          cudnnBackendSetAttribute(descriptor_, name, type, static_cast<int64_t>(values.size()), values.data()) ==
              CUDNN_STATUS_SUCCESS;
    return *this;
  }
  template <typename T>
  Setter& Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    return Set(name, type, std::span(&value, 1));
  }
  Setter& Ints(cudnnBackendAttributeName_t name, std::span<const int64_t> values) {
    return Set(name, CUDNN_TYPE_INT64, values);
  }
  Setter& Part(cudnnBackendAttributeName_t name, Descriptor part) {
    ok_ = ok_ && part != nullptr;
    return Set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, part);
  }
  // The descriptor, ready for use; null where something was refused.
  Descriptor Finish() {
    return ok_ && cudnnBackendFinalize(descriptor_) == CUDNN_STATUS_SUCCESS ? descriptor_ : nullptr;
  }

 private:
  Descriptor descriptor_;
  bool ok_ = true;
};

cudnnDataType_t TypeOf(DType type) {
  if (type == DType::kF32) return CUDNN_DATA_FLOAT;
  return type == DType::kBF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

struct TensorPlace {
  int64_t name;
  cudnnDataType_t type;
  // Is never in memory.
  bool is_virtual = false;
};

// [n, c, h, w], in this order, which lies channels last.
Descriptor FinishTensor(Descriptor descriptor, const TensorPlace& place, const std::array<int64_t, 4>& dims) {
  const auto [n, c, h, w] = dims;
  const std::array<int64_t, 4> strides{h * w * c, 1, w * c, c};
  return Setter(descriptor)
      .Set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, place.type)
      .Ints(CUDNN_ATTR_TENSOR_DIMENSIONS, dims)
      .Ints(CUDNN_ATTR_TENSOR_STRIDES, strides)
      .Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, place.name)
      .Set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment)
      .Set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, place.is_virtual)
      .Finish();
}

Descriptor FinishWindow(Descriptor descriptor, const ConvProduct& product) {
  return Setter(descriptor)
      .Set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{2})
      .Set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .Set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
      .Ints(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, product.geometry.pad)
      .Ints(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, product.geometry.pad)
      .Ints(CUDNN_ATTR_CONVOLUTION_DILATIONS, product.dilation)
      .Ints(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, product.stride)
      .Finish();
}

// What the three passes call the same things.
struct PassNames {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t window, x, kernel, y, alpha, beta;
};

PassNames NamesOf(ConvPass pass) {
  switch (pass) {
    case ConvPass::kForward:
      break;
    case ConvPass::kInput:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case ConvPass::kKernel:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
}

// True: the engine is compiled while it is asked for.
bool IsCompiledNow(Descriptor engine) {
  std::array<cudnnBackendBehaviorNote_t, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT> notes{};
  int64_t count = 0;
  if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                               static_cast<int64_t>(notes.size()), &count, notes.data()) != CUDNN_STATUS_SUCCESS) {
    return true;
  }
  const auto end = notes.begin() + std::min(count, static_cast<int64_t>(notes.size()));
  return std::find(notes.begin(), end, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != end;
}

// True: what the engine computes is decided by its inputs, and is a sum of the products in float.
bool AddsProducts(Descriptor config, Descriptor engine) {
  int64_t count = 0;
  if (engine == nullptr || cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                    1, &count, &engine) != CUDNN_STATUS_SUCCESS) {
    return false;
  }
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                               static_cast<int64_t>(notes.size()), &count, notes.data()) != CUDNN_STATUS_SUCCESS ||
      count > static_cast<int64_t>(notes.size())) {
    return false;
  }
  const auto harmless = [](cudnnBackendNumericalNote_t note) {
    return note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
  };
  return std::all_of(notes.begin(), notes.begin() + count, harmless);
}

}  // namespace

std::unique_ptr<GraphConv> GraphConv::Make(Context& context, const ConvProduct& product, const ConvTypes& types,
                                           const ConvEpilogue& epilogue) {
  std::unique_ptr<GraphConv> made(new GraphConv);
  if (!made->Build(context, product, types, epilogue)) return nullptr;
  return made;
}

GraphConv::~GraphConv() {
  // What was made last may refer to what was made before.
  for (auto it = owned_.rbegin(); it != owned_.rend(); ++it) static_cast<void>(cudnnBackendDestroyDescriptor(*it));
}

void GraphConv::Run(Context& context, const void* first, const void* second, const void* bias, void* out) const {
  void* workspace = nullptr;
  if (bytes_ > 0) {
    workspace = context.Scratch<char>(Slot::kLibrary, static_cast<size_t>(bytes_));
    if (workspace == nullptr) return;
  }
  // The last one is there only with a bias.
  const std::array<int64_t, 4> names{kFirst, kSecond, kOut, kBias};
  const std::array<const void*, 4> data{first, second, out, bias};
  const size_t count = has_bias_ ? 4 : 3;
  Descriptor pack = nullptr;
  if (!LOCKSTEP_CUDA_CHECK(context, cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack))) return;
  const Descriptor ready = Setter(pack)
                               .Ints(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::span(names).first(count))
                               .Set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
                                    std::span<const void* const>(data).first(count))
                               .Set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
                               .Finish();
  LOCKSTEP_CUDA_CHECK(context,
                      ready == nullptr ? CUDNN_STATUS_BAD_PARAM : cudnnBackendExecute(context.dnn, plan_, ready));
  static_cast<void>(cudnnBackendDestroyDescriptor(pack));
}

bool GraphConv::Build(Context& context, const ConvProduct& product, const ConvTypes& types,
                      const ConvEpilogue& epilogue) {
  has_bias_ = epilogue.bias;
  const Descriptor graph = Operations(context, product, types, epilogue);
  // By the library's own order, so that every run takes the same one; nothing is measured.
  return graph != nullptr &&
         (Choose(context, graph, CUDNN_HEUR_MODE_A) || Choose(context, graph, CUDNN_HEUR_MODE_FALLBACK));
}

Descriptor GraphConv::Operations(Context& context, const ConvProduct& product, const ConvTypes& types,
                                 const ConvEpilogue& epilogue) {
  const ConvGeometry& g = product.geometry;
  const std::array<int64_t, 4> x_dims{g.rows, g.library_channels, g.size[0], g.size[1]};
  const std::array<int64_t, 4> k_dims{g.filters, product.depth(), g.window[0], g.window[1]};
  const std::array<int64_t, 4> y_dims{g.rows, g.filters, g.out[0], g.out[1]};
  const cudnnDataType_t factor = TypeOf(types.factors), written = TypeOf(types.result);
  const auto tensor = [&](const TensorPlace& place, const std::array<int64_t, 4>& dims) {
    return FinishTensor(New(CUDNN_BACKEND_TENSOR_DESCRIPTOR), place, dims);
  };
  // The product's own result.
  const TensorPlace first{kFirst, factor}, second{kSecond, factor};
  const TensorPlace result{epilogue.any() ? kProduct : kOut, epilogue.any() ? CUDNN_DATA_FLOAT : written,
                           epilogue.any()};
  const ConvPass pass = product.pass;
  const Descriptor x = tensor(pass == ConvPass::kInput ? result : first, x_dims);
  const Descriptor kernel = tensor(pass == ConvPass::kKernel ? result : second, k_dims);
  const TensorPlace y_place = pass == ConvPass::kForward ? result : (pass == ConvPass::kInput ? first : second);
  Descriptor y = tensor(y_place, y_dims);
  const PassNames names = NamesOf(pass);
  std::vector<Descriptor> operations{
      Setter(New(names.operation))
          .Part(names.window, FinishWindow(New(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR), product))
          .Part(names.x, x)
          .Part(names.kernel, kernel)
          .Part(names.y, y)
          .Set(names.alpha, CUDNN_TYPE_FLOAT, 1.0f)
          .Set(names.beta, CUDNN_TYPE_FLOAT, 0.0f)
          .Finish()};
  // y = f(y, other), in a tensor of its own.
  const auto pointwise = [&](cudnnPointwiseMode_t mode, Descriptor other, const TensorPlace& to) {
    const Descriptor next = tensor(to, y_dims);
    Setter function(New(CUDNN_BACKEND_POINTWISE_DESCRIPTOR));
    function.Set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
        .Set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    Setter operation(New(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR));
    operation.Part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function.Finish())
        .Part(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, y)
        .Part(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, next);
    if (other != nullptr) operation.Part(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    operations.push_back(operation.Finish());
    y = next;
  };
  if (epilogue.bias) {
    const Descriptor bias = tensor({kBias, written}, {1, g.filters, 1, 1});
    if (bias == nullptr) return nullptr;
    const TensorPlace to{epilogue.relu ? kShifted : kOut, epilogue.relu ? CUDNN_DATA_FLOAT : written, epilogue.relu};
    pointwise(CUDNN_POINTWISE_ADD, bias, to);
  }
  if (epilogue.relu) pointwise(CUDNN_POINTWISE_RELU_FWD, nullptr, {kOut, written});
  if (std::find(operations.begin(), operations.end(), nullptr) != operations.end()) return nullptr;
  return Setter(New(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR))
      .Set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, context.dnn)
      .Set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::span<const Descriptor>(operations))
      .Finish();
}

bool GraphConv::Choose(Context& context, Descriptor graph, cudnnBackendHeurMode_t mode) {
  const Descriptor heuristic = Setter(New(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR))
                                   .Part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
                                   .Set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode)
                                   .Finish();
  if (heuristic == nullptr) return false;
  std::array<Descriptor, kMostEngines> configs{};
  for (Descriptor& config : configs) config = New(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  int64_t count = 0;
  if (cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMostEngines,
                               &count, configs.data()) != CUDNN_STATUS_SUCCESS) {
    return false;
  }
  const auto usable = [&](Descriptor config) {
    const Descriptor engine = New(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    return AddsProducts(config, engine) && !IsCompiledNow(engine) && Plan(context, config);
  };
  return std::any_of(configs.begin(), configs.begin() + std::min(count, kMostEngines), usable);
}

bool GraphConv::Plan(Context& context, Descriptor config) {
  const Descriptor plan = Setter(New(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR))
                              .Set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, context.dnn)
                              .Part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
                              .Finish();
  int64_t count = 0;
  if (plan == nullptr || cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                                  &count, &bytes_) != CUDNN_STATUS_SUCCESS) {
    return false;
  }
  if (bytes_ > static_cast<int64_t>(kConvWorkspaceLimit)) return false;
  plan_ = plan;
  return true;
}

Descriptor GraphConv::New(cudnnBackendDescriptorType_t type) {
  Descriptor descriptor = nullptr;
  if (cudnnBackendCreateDescriptor(type, &descriptor) != CUDNN_STATUS_SUCCESS) return nullptr;
  owned_.push_back(descriptor);
  return descriptor;
}

}  // namespace lockstep::cuda
