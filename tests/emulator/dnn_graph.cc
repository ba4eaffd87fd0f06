// SPDX-License-Identifier: Apache-2.0
// cuDNN's graph interface as its manual says, for a convolution channels last and what is done behind it. It proposes
// an engine that compiles for seconds, one that is not deterministic, one that turns out not to work, and one that may
// be taken; none for some shapes, so that what is done without one runs too. As the real one (9.19, of an H200) it has
// none but the first kind for factors of 16 bits with a result or a bias of floats, and for ReLU without a bias.
#include <cudnn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "tests/emulator/capture.h"
#include "tests/emulator/convolve.h"

namespace {

using lockstep::emulated::ConvWindow;
using lockstep::emulated::Enqueue;
using lockstep::emulated::Images;
using lockstep::emulated::Read;
using lockstep::emulated::Write;

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool finished = false;
  std::map<cudnnBackendAttributeName_t, std::vector<char>> attributes = {};

  template <typename T>
  std::vector<T> All(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(found->second.size() / sizeof(T));
    std::memcpy(values.data(), found->second.data(), found->second.size());
    return values;
  }
  // The first, or zero.
  template <typename T>
  T Get(cudnnBackendAttributeName_t name) const {
    T value{};
    const auto found = attributes.find(name);
    if (found != attributes.end()) std::memcpy(&value, found->second.data(), sizeof(value));
    return value;
  }
  const Descriptor* Part(cudnnBackendAttributeName_t name) const { return Get<const Descriptor*>(name); }
  template <typename T>
  void Put(cudnnBackendAttributeName_t name, const T& value) {
    const char* const bytes = reinterpret_cast<const char*>(&value);
    attributes[name].assign(bytes, bytes + sizeof(value));
  }
};

Descriptor& Of(cudnnBackendDescriptor_t descriptor) { return *static_cast<Descriptor*>(descriptor); }

size_t SizeOf(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
      return sizeof(bool);
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_FLOAT:
    case CUDNN_TYPE_CONVOLUTION_MODE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_POINTWISE_MODE:
      return 4;
    default:
      return 8;
  }
}

Images ImagesOf(const Descriptor& tensor) {
  Images images{.type = tensor.Get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)};
  std::ranges::copy(tensor.All<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS), images.dims.begin());
  std::ranges::copy(tensor.All<int64_t>(CUDNN_ATTR_TENSOR_STRIDES), images.strides.begin());
  return images;
}

// A convolution of any pass, by the names of the forward one.
struct Conv {
  cudnnBackendDescriptorType_t pass;
  const Descriptor *x, *kernel, *y, *window;

  explicit Conv(const Descriptor& operation) : pass(operation.type) {
    switch (pass) {
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        x = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX);
        kernel = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W);
        y = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY);
        window = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC);
        break;
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        x = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X);
        kernel = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW);
        y = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY);
        window = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC);
        break;
      default:
        x = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X);
        kernel = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W);
        y = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
        window = operation.Part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
        break;
    }
  }
  bool Whole() const { return x != nullptr && kernel != nullptr && y != nullptr && window != nullptr; }
  const Descriptor* Out() const {
    if (pass == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) return x;
    return pass == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR ? kernel : y;
  }
  ConvWindow Place() const {
    ConvWindow place;
    std::ranges::copy(window->All<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), place.pad.begin());
    std::ranges::copy(window->All<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), place.stride.begin());
    std::ranges::copy(window->All<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS), place.dilation.begin());
    return place;
  }
};

std::vector<const Descriptor*> OperationsOf(const Descriptor& graph) {
  return graph.All<const Descriptor*>(CUDNN_ATTR_OPERATIONGRAPH_OPS);
}

// The engines, in the order in which they are proposed.
constexpr int64_t kSlow = 0, kDisordered = 1, kBroken = 2, kGood = 3, kEngines = 4;

// What the library says when a descriptor is finished.
bool MayFinish(const Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return ImagesOf(d).elements() > 0 && d.attributes.contains(CUDNN_ATTR_TENSOR_DATA_TYPE) &&
             d.attributes.contains(CUDNN_ATTR_TENSOR_UNIQUE_ID) &&
             d.attributes.contains(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      return d.Get<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) == 2 &&
             d.Get<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT &&
             d.Get<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION &&
             d.All<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS) ==
                 d.All<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: {
      const Conv conv(d);
      return conv.Whole() && Fits(ImagesOf(*conv.x), ImagesOf(*conv.kernel), conv.Place(), ImagesOf(*conv.y));
    }
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return !OperationsOf(d).empty();
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return d.Part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->Get<int64_t>(CUDNN_ATTR_ENGINECFG_ENGINE) != kBroken;
    default:
      return true;
  }
}

bool IsFloat(const Descriptor& tensor) {
  return tensor.Get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_FLOAT;
}

// For factors of 16 bits, all but the convolution itself. A height by five has only what compiles, too.
bool HasReadyHalves(const std::vector<const Descriptor*>& operations, const Conv& conv) {
  const Descriptor* const last = operations.back();
  const bool alone = operations.size() == 1;
  if (IsFloat(alone ? *conv.Out() : *last->Part(CUDNN_ATTR_OPERATION_POINTWISE_YDESC))) return false;
  if (!alone && IsFloat(*operations[1]->Part(CUDNN_ATTR_OPERATION_POINTWISE_BDESC))) return false;
  return ImagesOf(*conv.x).dims[2] % 5 != 0;
}

// How many engines. Tensor cores want channels by eight. Bias and ReLU are not behind a dilated window, strides of
// three are not supported, and no engine has one of kernels that are as large as their stride.
int64_t CountEngines(const Descriptor& graph) {
  const std::vector<const Descriptor*> operations = OperationsOf(graph);
  const Conv conv(*operations[0]);
  const Images x = ImagesOf(*conv.x), y = ImagesOf(*conv.y);
  const bool of_kernel = conv.pass == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
  const bool floats = IsFloat(of_kernel ? *conv.x : *conv.kernel);
  const int64_t run = floats ? 4 : 8, stride = conv.Place().stride[0];
  if (x.dims[1] % run != 0 || y.dims[1] % run != 0 || stride == 3) return 0;
  if (operations.size() > 1 && conv.Place().dilation[0] != 1) return 0;
  if (operations.size() > 1 && operations[1]->Part(CUDNN_ATTR_OPERATION_POINTWISE_BDESC) == nullptr) return kSlow + 1;
  if (!floats && !HasReadyHalves(operations, conv)) return kSlow + 1;
  return of_kernel && stride > 1 && stride == ImagesOf(*conv.kernel).dims[2] ? 0 : kEngines;
}

// The memory of each tensor: what is given, and floats for what never is.
class Memory {
 public:
  explicit Memory(const Descriptor& pack) {
    const std::vector<int64_t> names = pack.All<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const std::vector<void*> data = pack.All<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t i = 0; i < names.size(); ++i) given_[names[i]] = data[i];
  }
  // Null: missing, or not on its boundary.
  void* Of(const Descriptor& tensor) {
    const int64_t name = tensor.Get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    if (tensor.Get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)) {
      if (!IsFloat(tensor)) return nullptr;
      own_[name].resize(static_cast<size_t>(ImagesOf(tensor).elements()));
      return own_[name].data();
    }
    void* const data = given_[name];
    const auto boundary = static_cast<uintptr_t>(tensor.Get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT));
    return reinterpret_cast<uintptr_t>(data) % boundary == 0 ? data : nullptr;
  }

 private:
  std::map<int64_t, void*> given_;
  std::map<int64_t, std::vector<float>> own_;
};

bool Convolve(const Conv& conv, Memory& memory) {
  const Images x = ImagesOf(*conv.x), k = ImagesOf(*conv.kernel), y = ImagesOf(*conv.y), to = ImagesOf(*conv.Out());
  void *xs = memory.Of(*conv.x), *ks = memory.Of(*conv.kernel), *ys = memory.Of(*conv.y);
  if (xs == nullptr || ks == nullptr || ys == nullptr) return false;
  const void* const out = memory.Of(*conv.Out());
  std::vector<float> sums(static_cast<size_t>(to.elements()));
  ForProducts(x, k, conv.Place(), y, [&](int64_t a, int64_t b, int64_t c) {
    if (out == ys) {
      sums[static_cast<size_t>(c)] += Read(xs, x.type, a) * Read(ks, k.type, b);
    } else if (out == xs) {
      sums[static_cast<size_t>(a)] += Read(ys, y.type, c) * Read(ks, k.type, b);
    } else {
      sums[static_cast<size_t>(b)] += Read(ys, y.type, c) * Read(xs, x.type, a);
    }
  });
  for (int64_t i = 0; i < to.elements(); ++i) {
    Write(memory.Of(*conv.Out()), to.type, i, sums[static_cast<size_t>(i)]);
  }
  return true;
}

bool Pointwise(const Descriptor& operation, Memory& memory) {
  const Descriptor& x = *operation.Part(CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
  const Descriptor& y = *operation.Part(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
  const Descriptor* const other = operation.Part(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
  const Images from = ImagesOf(x), to = ImagesOf(y);
  const void *xs = memory.Of(x), *bias = other == nullptr ? nullptr : memory.Of(*other);
  void* const ys = memory.Of(y);
  const auto mode = operation.Part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)
                        ->Get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  if (xs == nullptr || ys == nullptr || (mode == CUDNN_POINTWISE_ADD) != (bias != nullptr)) return false;
  // Channels are next to each other.
  const int64_t channels = from.dims[1];
  for (int64_t i = 0; i < from.elements(); ++i) {
    const float value = Read(xs, from.type, i);
    const float shifted = bias == nullptr ? value : value + Read(bias, ImagesOf(*other).type, i % channels);
    Write(ys, to.type, i, mode == CUDNN_POINTWISE_ADD ? shifted : std::max(value, 0.0f));
  }
  return true;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  *descriptor = new Descriptor{type};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete &Of(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  if (Of(descriptor).finished) return CUDNN_STATUS_NOT_INITIALIZED;
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (int64_t i = 0; i < count; ++i) {
      if (!static_cast<Descriptor* const*>(values)[i]->finished) return CUDNN_STATUS_BAD_PARAM;
    }
  }
  const char* const bytes = static_cast<const char*>(values);
  Of(descriptor).attributes[name].assign(bytes, bytes + static_cast<size_t>(count) * SizeOf(type));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  // A plan may allocate and load kernels.
  if (lockstep::emulated::Capturing() && Of(descriptor).type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
    return CUDNN_STATUS_EXECUTION_FAILED;
  }
  if (!MayFinish(Of(descriptor))) return CUDNN_STATUS_NOT_SUPPORTED;
  Of(descriptor).finished = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t room, int64_t* count, void* values) {
  const Descriptor& d = Of(descriptor);
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
    const Descriptor* const graph = d.Part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const bool asked = d.Get<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_A;
    *count = asked ? std::min(room, CountEngines(*graph)) : 0;
    for (int64_t i = 0; i < *count; ++i) {
      Descriptor& config = *static_cast<Descriptor* const*>(values)[i];
      config.Put(CUDNN_ATTR_ENGINECFG_ENGINE, i);
      config.Put(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
      config.finished = true;
    }
    return CUDNN_STATUS_SUCCESS;
  }
  *count = 1;
  switch (name) {
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      (*static_cast<Descriptor* const*>(values))->Put(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, d.Get<int64_t>(name));
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
      auto* const notes = static_cast<cudnnBackendNumericalNote_t*>(values);
      const bool ordered = d.Get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX) != kDisordered;
      notes[0] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
      if (!ordered) notes[(*count)++] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
      static_cast<cudnnBackendBehaviorNote_t*>(values)[0] = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
      *count = d.Get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX) == kSlow ? 1 : 0;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *static_cast<int64_t*>(values) = 512;
      return CUDNN_STATUS_SUCCESS;
    default:
      return CUDNN_STATUS_NOT_SUPPORTED;
  }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  const Descriptor& config = *Of(plan).Part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  if (config.Get<int64_t>(CUDNN_ATTR_ENGINECFG_ENGINE) != kGood) return CUDNN_STATUS_EXECUTION_FAILED;
  if (Of(pack).Get<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE) == nullptr) return CUDNN_STATUS_BAD_PARAM;
  // The plan is kept as long as what was enqueued may run; the pack is not.
  Enqueue([&config, pack = Of(pack)] {
    Memory memory(pack);
    for (const Descriptor* operation : OperationsOf(*config.Part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH))) {
      const bool pointwise = operation->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
      if (pointwise ? Pointwise(*operation, memory) : Convolve(Conv(*operation), memory)) continue;
      std::fprintf(stderr, "emulated cuDNN: a tensor is missing, misplaced or of another type\n");
      std::abort();
    }
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
