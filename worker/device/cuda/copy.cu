// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/copy.h"
#include "worker/device/cuda/gathered.cuh"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/visit.h"

namespace lockstep::cuda {

namespace {

template <typename T>
struct FillOp {
  T* out;
  T value;
  __device__ void operator()(int64_t i) const { out[i] = value; }
};

template <typename T>
void FillAs(Context& context, const Tensor& out, double value) {
  ForEach(context, out.elements(), FillOp<T>{out.as<T>(), static_cast<T>(value)});
}

struct BytesOp {
  const uint8_t* from;
  uint8_t* to;
  __device__ void operator()(int64_t i) const { to[i] = from[i]; }
};

template <typename T>
struct AddOp {
  const T* a;
  const T* b;
  T* out;
  template <int Width>
  __device__ void Run(int64_t i) const {
    Pack<T, Width> sum = Pack<T, Width>::Load(a + i);
    const Pack<T, Width> other = Pack<T, Width>::Load(b + i);
    for (int k = 0; k < Width; ++k) sum.at[k] += other.at[k];
    sum.Store(out + i);
  }
};

template <typename T>
struct ConvertOp {
  const double* from;
  double scale;
  T* to;
  __device__ void operator()(int64_t i) const { to[i] = static_cast<T>(from[i] * scale); }
};

template <typename T>
struct BlendOp {
  const T* from;
  T keep, take;
  T* to;
  __device__ void operator()(int64_t i) const { to[i] = take * from[i] + keep * to[i]; }
};

struct LabelOp {
  const int32_t* labels;
  const int64_t* indices;
  int32_t* out;
  __device__ void operator()(int64_t i) const { out[i] = labels[indices[i]]; }
};

template <typename T>
struct BlocksOp {
  const T* from;
  T* to;
  int64_t from_stride, to_stride, width;
  bool add;
  __device__ void operator()(int64_t i) const {
    const int64_t block = i / width, j = i - block * width;
    const T value = from[block * from_stride + j];
    T* const target = to + block * to_stride + j;
    *target = add ? *target + value : value;
  }
};

// A row of the batch is a row of blocks' y; a thread keeps its column.
template <typename S, typename T>
__global__ void GatherKernel(const S* __restrict__ rows, const int64_t* __restrict__ indices, int64_t batch,
                             int64_t width, T scale, T offset, T* __restrict__ out) {
  for (int64_t i = blockIdx.y; i < batch; i += gridDim.y) {
    const S* row = rows + indices[i] * width;
    for (int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; j < width;
         j += static_cast<int64_t>(gridDim.x) * blockDim.x) {
      out[i * width + j] = Gathered(row[j], scale, offset);
    }
  }
}

}  // namespace

void Copy(Context& context, Tensor from, Tensor to) {
  if (from.bytes() == 0) return;
  if (context.recording.halted() != nullptr) {
    return ForEach(context, static_cast<int64_t>(from.bytes()), BytesOp{from.as<uint8_t>(), to.as<uint8_t>()});
  }
  LOCKSTEP_CUDA_CHECK(context,
                      cudaMemcpyAsync(to.data, from.data, from.bytes(), cudaMemcpyDeviceToDevice, context.stream));
}

void Fill(Context& context, Tensor out, double value) {
  if (out.bytes() == 0) return;
  // What may halt is done by a kernel, which looks first.
  if (value == 0 && context.recording.halted() == nullptr) {
    LOCKSTEP_CUDA_CHECK(context, cudaMemsetAsync(out.data, 0, out.bytes(), context.stream));
    return;
  }
  switch (out.type) {
    case DType::kF32:
      return FillAs<float>(context, out, value);
    case DType::kF64:
      return FillAs<double>(context, out, value);
    case DType::kU8:
      return FillAs<uint8_t>(context, out, value);
    case DType::kI32:
      return FillAs<int32_t>(context, out, value);
    case DType::kI64:
      return FillAs<int64_t>(context, out, value);
    case DType::kBF16:
    case DType::kF16:
      return context.failure.Note("Fill", __FILE__, __LINE__, "factors are only filled with zeros");
  }
}

void Add(Context& context, Tensor a, Tensor b, Tensor out) {
  if (out.data == context.recording.looked_through) context.recording.looked_through = nullptr;
  const int64_t n = out.elements();
  VisitStored(out.type, [&]<typename T>(T) {
    ForPacks<T>(context, n, n, {a.data, b.data, out.data}, AddOp<T>{a.as<T>(), b.as<T>(), out.as<T>()});
  });
}

void GatherRows(Context& context, Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) {
  if (out.elements() == 0) return;
  const int64_t batch = out.shape[0], width = out.elements() / batch;
  const dim3 grid(BlocksFor(context, width), static_cast<unsigned>(std::min<int64_t>(batch, 65535)));
  VisitReal(out.type, [&]<typename T>(T) {
    const T scale = static_cast<T>(args.scale), offset = static_cast<T>(args.offset);
    if (rows.type == DType::kU8) {
      GatherKernel<<<grid, kThreads, 0, context.stream>>>(rows.as<uint8_t>(), indices.as<int64_t>(), batch, width,
                                                          scale, offset, out.as<T>());
    } else {
      GatherKernel<<<grid, kThreads, 0, context.stream>>>(rows.as<T>(), indices.as<int64_t>(), batch, width, scale,
                                                          offset, out.as<T>());
    }
  });
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

void GatherLabels(Context& context, Tensor labels, Tensor indices, Tensor out) {
  ForEach(context, out.elements(), LabelOp{labels.as<int32_t>(), indices.as<int64_t>(), out.as<int32_t>()});
}

void CopyBlocks(Context& context, Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout,
                int64_t blocks, int64_t width, bool add) {
  VisitReal(to.type, [&]<typename T>(T) {
    ForEach(context, blocks * width,
            BlocksOp<T>{from.as<T>() + from_layout.offset, to.as<T>() + to_layout.offset, from_layout.stride,
                        to_layout.stride, width, add});
  });
}

void Convert(Context& context, Tensor from, double scale, Tensor to) {
  VisitReal(to.type, [&]<typename T>(T) {
    ForEach(context, to.elements(), ConvertOp<T>{from.as<double>(), scale, to.as<T>()});
  });
}

void Blend(Context& context, double keep, Tensor from, Tensor to) {
  VisitReal(to.type, [&]<typename T>(T) {
    ForEach(context, to.elements(),
            BlendOp<T>{from.as<T>(), static_cast<T>(keep), static_cast<T>(1.0 - keep), to.as<T>()});
  });
}

}  // namespace lockstep::cuda
