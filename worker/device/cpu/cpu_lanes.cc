// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_lanes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "worker/device/cpu/cpu_buffer.h"
#include "worker/device/cpu/lane_blocks.h"

namespace lockstep::cpu {

namespace {

// Fewer channels leave too much of a pair's words empty, and too little to win.
constexpr int64_t kPairedChannels = 8;

LaneConv ConvOf(const WindowArgs& args, const Shape& x, const Shape& y) {
  return {.channels = x[1],
          .filters = y[1],
          .in = {x[2], x[3]},
          .out = {y[2], y[3]},
          .size = {args.size[0], args.size[1]},
          .stride = {args.stride[0], args.stride[1]},
          .dilation = {args.dilation[0], args.dilation[1]},
          .pad = {args.pad_begin[0], args.pad_begin[1]},
          .out_width = y[3]};
}

// The gradient of every stride-th row and column of the input, from `first` on, as a convolution of dy with those
// places of the kernel, in reverse, that reach it.
struct InputPhase {
  InputPhase(const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y,
             const std::array<int64_t, 2>& first)
      : conv{.channels = y[1], .filters = x[1], .in = {y[2], y[3]}, .out_width = x[3]},
        strides{.filter = kernel[2] * kernel[3], .channel = kernel[1] * kernel[2] * kernel[3]} {
    int64_t step[2], last[2];
    for (size_t axis = 0; axis < 2; ++axis) {
      const int image = static_cast<int>(axis) + 2;
      const int64_t stride = args.stride[axis], reach = first[axis] + args.pad_begin[axis], begin = reach % stride;
      const int64_t count = begin < args.size[axis] ? (args.size[axis] - begin + stride - 1) / stride : 0;
      conv.size[axis] = count;
      conv.dilation[axis] = args.dilation[axis];
      conv.pad[axis] = (count - 1) * args.dilation[axis] - reach / stride;
      conv.out[axis] = (x[image] - first[axis] + stride - 1) / stride;
      conv.out_begin[axis] = first[axis];
      conv.out_step[axis] = stride;
      step[axis] = -stride;
      last[axis] = std::max<int64_t>(0, begin + (count - 1) * stride);
    }
    strides.row = step[0] * kernel[3];
    strides.column = step[1];
    offset = last[0] * kernel[3] + last[1];
  }
  LaneConv conv;
  LaneKernelStrides strides;
  // Of the first place in the kernel.
  int64_t offset;
};

LanePool PoolOf(const WindowArgs& args, const Shape& x, const Shape& y) {
  return {.channels = x[1],
          .in = {x[2], x[3]},
          .out = {y[2], y[3]},
          .size = {args.size[0], args.size[1]},
          .stride = {args.stride[0], args.stride[1]},
          .pad = {args.pad_begin[0], args.pad_begin[1]}};
}

// [p][q][channel][filter] to [filter][channel][p][q].
void TurnGradient(const LaneConv& conv, const float* sums, float* dkernel) {
  const int64_t places = conv.size[0] * conv.size[1], padded = PaddedFilters(conv.filters);
  for (int64_t f = 0; f < conv.filters; ++f) {
    for (int64_t c = 0; c < conv.channels; ++c) {
      float* to = dkernel + (f * conv.channels + c) * places;
      for (int64_t p = 0; p < places; ++p) to[p] = sums[(p * conv.channels + c) * padded + f];
    }
  }
}

bool IsRelu(const ActivationArgs& activation) { return activation.kind == Activation::kRelu; }

double Value(const Tensor& list, int64_t i, double otherwise) {
  return list.data == nullptr ? otherwise : static_cast<double>(list.as<float>()[i]);
}

}  // namespace

bool PrefersLanes(const WindowArgs& args, const Shape& x, const Shape& kernel) {
  // A run of products for each place of a window, at most (kMaxRuns).
  constexpr int64_t kMostPlaces = 64;
  const bool strided = args.stride[0] > 1 || args.stride[1] > 1, dilated = args.dilation[0] > 1 || args.dilation[1] > 1;
  if (args.groups != 1 || (strided && dilated) || kernel[2] * kernel[3] > kMostPlaces) return false;
  // Of a block's lanes at least a half.
  const int64_t rows = x[0], lanes = (rows + kLanes - 1) / kLanes * kLanes;
  return 2 * rows >= lanes;
}

int64_t LaneElements(const Shape& images) {
  if (images.rank() == 0 || images[0] == 0) return 0;
  return images.elements() / images[0] * ((images[0] + kLanes - 1) / kLanes * kLanes);
}

float* CpuLanes::Scratch::Floats(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  if (buffer_ == nullptr || buffer_->bytes() < bytes) {
    absl::StatusOr<std::unique_ptr<Buffer>> buffer = AllocateHost(bytes);
    buffer_ = std::move(buffer).value();
  }
  return static_cast<float*>(buffer_->data());
}

void CpuLanes::Relayout(const Tensor& from, const Tensor& to) {
  const bool in = to.layout == Layout::kImages;
  const Blocks blocks(from);
  const int64_t dense = blocks.channels * blocks.places * kLanes;
  ForBlocks(blocks.count, threads_, [&](int64_t block) {
    const float* x = from.as<float>() + block * dense;
    (in ? k_.to_lanes : k_.from_lanes)(x, blocks.Samples(block), blocks.channels, blocks.places,
                                       to.as<float>() + block * dense);
  });
}

CpuLanes::Factors CpuLanes::FactorsOf(ProductPrecision precision, bool pairs_pay) const {
  if (precision != ProductPrecision::kBf16) return Factors::kFloats;
  return pairs_ != nullptr && pairs_pay ? Factors::kPairs : Factors::kRounded;
}

const float* CpuLanes::Pack(const LaneConv& conv, Factors factors, const float* kernel,
                            const LaneKernelStrides& strides) {
  const int64_t places = conv.size[0] * conv.size[1];
  float* const packed = packed_.Floats(conv.filters * (conv.channels + 1) * places);
  (factors == Factors::kPairs ? pairs_->pack : k_.pack)(conv, kernel, strides, packed);
  if (factors == Factors::kRounded) f32_.round_bf16(packed, conv.filters * conv.channels * places, packed);
  return packed;
}

void CpuLanes::Convolve(LaneConv conv, Factors factors, const float* kernel, const LaneKernelStrides& strides,
                        const Tensor& x, const LaneEpilogue& epilogue, const Tensor& y) {
  const Blocks in(x), out(y);
  const bool pairs = factors == Factors::kPairs, winograd = TakesWinograd(conv, factors);
  const float* const packed =
      winograd ? PackWinograd(conv, factors, kernel, strides) : Pack(conv, factors, kernel, strides);
  if (pairs) conv.channels = (conv.channels + 1) / 2;
  const int64_t copy = factors == Factors::kFloats ? 0 : in.floats + in.places * kLanes;
  const int64_t each = copy + (winograd ? WinogradFloats(conv) : 0);
  float* const work = rounded_.Floats(threads_ * each);
  ForThreads(in.count, threads_, [&](int64_t thread, int64_t begin, int64_t end) {
    float* const own = work + thread * each;
    for (int64_t block = begin; block < end; ++block) {
      const float* from = Block(x, in, block);
      LaneEpilogue after = epilogue;
      if (after.gate != nullptr) after.gate += block * out.floats;
      if (pairs) {
        pairs_->pair_channels(from, in.places, in.channels, own);
        pairs_->conv(conv, own, packed, after, Block(y, out, block));
        continue;
      }
      if (winograd) {
        ConvolveWinograd(conv, packed, from, copy > 0 ? own : nullptr, after, own + copy, Block(y, out, block));
        continue;
      }
      if (factors == Factors::kRounded) {
        f32_.round_bf16(from, in.floats, own);
        from = own;
      }
      k_.conv(conv, from, packed, after, Block(y, out, block));
    }
  });
}

bool CpuLanes::ConvForward(const WindowArgs& args, const Tensor& x, const Tensor& kernel, const Tensor& bias,
                           const ActivationArgs& activation, const Tensor& y) {
  const LaneConv conv = ConvOf(args, x.shape, y.shape);
  const int64_t places = kernel.shape[2] * kernel.shape[3];
  const LaneEpilogue epilogue{.bias = bias.as<float>(), .relu = IsRelu(activation)};
  Convolve(conv, FactorsOf(args.precision, conv.channels >= kPairedChannels), kernel.as<float>(),
           {kernel.shape[1] * places, places, kernel.shape[3], 1}, x, epilogue, y);
  return activation.linear() || epilogue.relu;
}

bool CpuLanes::ConvBackwardInput(const WindowArgs& args, const Tensor& dy, const Tensor& kernel,
                                 const ActivationArgs& before, const Tensor& x, const Tensor& dx) {
  const LaneEpilogue epilogue{.gate = IsRelu(before) ? x.as<float>() : nullptr};
  for (int64_t i = 0; i < args.stride[0]; ++i) {
    for (int64_t j = 0; j < args.stride[1]; ++j) {
      const InputPhase phase(args, dx.shape, kernel.shape, dy.shape, {i, j});
      Convolve(phase.conv, FactorsOf(args.precision, phase.conv.channels >= kPairedChannels),
               kernel.as<float>() + phase.offset, phase.strides, dy, epilogue, dx);
    }
  }
  return before.linear() || IsRelu(before);
}

void CpuLanes::ConvBackwardKernel(const WindowArgs& args, const Tensor& x, const Tensor& dy, const Tensor& dkernel,
                                  const Tensor& dbias) {
  const LaneConv conv = ConvOf(args, x.shape, dy.shape);
  const Factors factors = FactorsOf(args.precision, !SamplesStayInLanes(conv.filters));
  const bool winograd = TakesWinograd(conv, factors), rounds = factors == Factors::kRounded;
  const int64_t padded = PaddedFilters(conv.filters);
  const int64_t taps = (winograd ? kWinogradPlaces : conv.size[0] * conv.size[1]) * conv.channels;
  const int64_t sums = (taps + 1) * padded;
  const Blocks in(x), out(dy);
  // The sums of each thread, on lines of its own.
  const int64_t scratch = winograd ? WinogradFloats(conv) : PaddedFilters(KernelScratch(conv));
  const int64_t own = PaddedFilters(sums) + scratch + (rounds ? in.floats + out.floats : 0);
  float* all = sums_.Floats(own * threads_);
  const auto conv_kernel = factors == Factors::kPairs ? pairs_->conv_kernel : k_.conv_kernel;
  ForThreads(in.count, threads_, [&](int64_t thread, int64_t begin, int64_t end) {
    float* mine = all + thread * own;
    float* work = mine + PaddedFilters(sums);
    std::fill_n(mine, sums, 0.0f);
    for (int64_t block = begin; block < end; ++block) {
      const float* a = Block(x, in, block);
      const float* b = Block(dy, out, block);
      float* bias = mine + taps * padded;
      float* const to = work + scratch;
      if (winograd) {
        AddWinograd(conv, a, rounds ? to : nullptr, b, in.Samples(block), mine, bias, work);
        continue;
      }
      if (rounds) {
        k_.sum_places(b, out.places, conv.filters, std::exchange(bias, nullptr));
        f32_.round_bf16(a, in.floats, to);
        f32_.round_bf16(b, out.floats, to + in.floats);
        a = to, b = to + in.floats;
      }
      conv_kernel(conv, a, b, in.Samples(block), mine, bias, work);
    }
  });
  for (int thread = 1; thread < threads_; ++thread) {
    for (int64_t i = 0; i < sums; ++i) all[i] += all[thread * own + i];
  }
  winograd ? FinishWinograd(conv, all, dkernel.as<float>()) : TurnGradient(conv, all, dkernel.as<float>());
  if (dbias.data != nullptr) std::copy_n(all + taps * padded, conv.filters, dbias.as<float>());
}

void CpuLanes::PoolForward(Pooling kind, const WindowArgs& args, const Tensor& x, const Tensor& y) {
  const LanePool pool = PoolOf(args, x.shape, y.shape);
  const Blocks in(x), out(y);
  const auto forward = kind == Pooling::kMax ? k_.max_pool_forward : k_.average_pool_forward;
  ForBlocks(in.count, threads_, [&](int64_t block) { forward(pool, Block(x, in, block), Block(y, out, block)); });
}

bool CpuLanes::PoolBackward(Pooling kind, const WindowArgs& args, const Tensor& x, const Tensor& y, const Tensor& dy,
                            const ActivationArgs& before, const Tensor& dx) {
  const LanePool pool = PoolOf(args, dx.shape, dy.shape);
  const Blocks in(dx), out(dy);
  const bool max = kind == Pooling::kMax, gated = max && IsRelu(before);
  ForBlocks(in.count, threads_, [&](int64_t block) {
    if (max) {
      k_.max_pool_backward(pool, Block(x, in, block), Block(y, out, block), Block(dy, out, block), gated,
                           Block(dx, in, block));
    } else {
      k_.average_pool_backward(pool, Block(dy, out, block), Block(dx, in, block));
    }
  });
  return before.linear() || gated;
}

void CpuLanes::ChannelSums(const Tensor& x, const Tensor& sums) {
  const Blocks blocks(x);
  for (int64_t block = 0; block < blocks.count; ++block) {
    const float* from = Block(x, blocks, block);
    k_.product_sums(from, from, blocks.places, blocks.channels, blocks.Samples(block), sums.as<double>());
  }
}

void CpuLanes::ChannelNormForward(const Tensor& x, const Tensor& statistics, const Tensor& gamma, const Tensor& beta,
                                  const Tensor& y) {
  const Blocks blocks(x);
  const double* mean = statistics.as<double>();
  const double* inverse = mean + blocks.channels;
  float* scale = factors_.Floats(2 * blocks.channels);
  float* shift = scale + blocks.channels;
  for (int64_t c = 0; c < blocks.channels; ++c) {
    const double factor = inverse[c] * Value(gamma, c, 1.0);
    scale[c] = static_cast<float>(factor);
    shift[c] = static_cast<float>(Value(beta, c, 0.0) - mean[c] * factor);
  }
  ForBlocks(blocks.count, threads_, [&](int64_t block) {
    k_.scale_shift(Block(x, blocks, block), blocks.places, blocks.channels, scale, shift, Block(y, blocks, block));
  });
}

void CpuLanes::ChannelNormSums(const Tensor& x, const Tensor& statistics, const Tensor& dy, const Tensor& sums) {
  const Blocks blocks(x);
  const double* mean = statistics.as<double>();
  const double* inverse = mean + blocks.channels;
  double* own = factors_.Doubles(2 * blocks.channels);
  std::fill_n(own, 2 * blocks.channels, 0.0);
  for (int64_t block = 0; block < blocks.count; ++block) {
    k_.product_sums(Block(x, blocks, block), Block(dy, blocks, block), blocks.places, blocks.channels,
                    blocks.Samples(block), own);
  }
  for (int64_t c = 0; c < blocks.channels; ++c) {
    sums.as<double>()[c] += own[c];
    sums.as<double>()[blocks.channels + c] += (own[blocks.channels + c] - mean[c] * own[c]) * inverse[c];
  }
}

void CpuLanes::ChannelNormBackward(const Tensor& x, const Tensor& statistics, const Tensor& gamma, const Tensor& sums,
                                   double count, const Tensor& dy, const Tensor& dx) {
  const Blocks blocks(x);
  const int64_t channels = blocks.channels;
  const double* mean = statistics.as<double>();
  const double* inverse = mean + channels;
  const double* s = sums.as<double>();
  float* factors = factors_.Floats(3 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double a = inverse[c] * Value(gamma, c, 1.0);
    const double per_dy = count > 0 ? s[c] / count : 0.0;
    const double per_x = count > 0 ? s[channels + c] / count * inverse[c] : 0.0;
    factors[c] = static_cast<float>(a);
    factors[channels + c] = static_cast<float>(-a * per_x);
    factors[2 * channels + c] = static_cast<float>(a * (per_x * mean[c] - per_dy));
  }
  ForBlocks(blocks.count, threads_, [&](int64_t block) {
    k_.norm_backward(Block(x, blocks, block), Block(dy, blocks, block), blocks.places, channels, blocks.Samples(block),
                     factors, factors + channels, factors + 2 * channels, Block(dx, blocks, block));
  });
}

}  // namespace lockstep::cpu
