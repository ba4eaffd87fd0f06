// SPDX-License-Identifier: Apache-2.0
// Images in blocks of 16 samples (lane_kernels.h) on the CPU: float alone. Threads share out the blocks; where
// blocks are added up, each thread adds a fixed part of them, and the parts are added in order.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/lane_kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

// True: such a convolution is faster here than in oneDNN with the copies into and out of its own layout.
bool PrefersLanes(const WindowArgs& args, const Shape& x, const Shape& kernel);

// Floats that images [rows, channels, ...] take.
int64_t LaneElements(const Shape& images);

class CpuLanes {
 public:
  CpuLanes(const KernelChoice& kernels, int threads)
      : k_(*kernels.lanes), pairs_(kernels.lane_pairs), f32_(*kernels.f32), threads_(threads) {}

  // See Device. Images are Layout::kImages; only Relayout is between the two. The largest call so far decides how much
  // memory is kept.
  void Relayout(const Tensor& from, const Tensor& to);
  // Both apply relu, and say whether nothing is left to apply.
  bool ConvForward(const WindowArgs& args, const Tensor& x, const Tensor& kernel, const Tensor& bias,
                   const ActivationArgs& activation, const Tensor& y);
  bool ConvBackwardInput(const WindowArgs& args, const Tensor& dy, const Tensor& kernel, const ActivationArgs& before,
                         const Tensor& x, const Tensor& dx);
  void ConvBackwardKernel(const WindowArgs& args, const Tensor& x, const Tensor& dy, const Tensor& dkernel,
                          const Tensor& dbias);
  void PoolForward(Pooling kind, const WindowArgs& args, const Tensor& x, const Tensor& y);
  // As ConvBackwardInput.
  bool PoolBackward(Pooling kind, const WindowArgs& args, const Tensor& x, const Tensor& y, const Tensor& dy,
                    const ActivationArgs& before, const Tensor& dx);
  void ChannelSums(const Tensor& x, const Tensor& sums);
  void ChannelNormForward(const Tensor& x, const Tensor& statistics, const Tensor& gamma, const Tensor& beta,
                          const Tensor& y);
  void ChannelNormSums(const Tensor& x, const Tensor& statistics, const Tensor& dy, const Tensor& sums);
  void ChannelNormBackward(const Tensor& x, const Tensor& statistics, const Tensor& gamma, const Tensor& sums,
                           double count, const Tensor& dy, const Tensor& dx);

 private:
  // Memory on a 64-byte boundary that only grows.
  class Scratch {
   public:
    float* Floats(int64_t count);
    double* Doubles(int64_t count) { return reinterpret_cast<double*>(Floats(2 * count)); }

   private:
    std::unique_ptr<Buffer> buffer_;
  };

  // What products are made of: floats, floats rounded to BF16, or words of two such.
  enum class Factors : uint8_t { kFloats, kRounded, kPairs };
  // `pairs_pay`: the sums are long enough to be made of pairs.
  Factors FactorsOf(ProductPrecision precision, bool pairs_pay) const;
  // The kernel for LaneKernels::conv or LanePairKernels::conv, in packed_.
  const float* Pack(const LaneConv& conv, Factors factors, const float* kernel, const LaneKernelStrides& strides);
  // y = x * kernel, or those outputs that `conv` has.
  void Convolve(LaneConv conv, Factors factors, const float* kernel, const LaneKernelStrides& strides, const Tensor& x,
                const LaneEpilogue& epilogue, const Tensor& y);

  // cpu_winograd.cc. True: these are faster; outputs and gradients are then sums in another order.
  static bool TakesWinograd(const LaneConv& conv, Factors factors);
  // The kernel for ConvolveWinograd, in packed_.
  const float* PackWinograd(const LaneConv& conv, Factors factors, const float* kernel,
                            const LaneKernelStrides& strides);
  // Of one block; rounded: room for x as factors, null: it is not rounded; memory: WinogradFloats.
  void ConvolveWinograd(const LaneConv& conv, const float* packed, const float* x, float* rounded,
                        const LaneEpilogue& epilogue, float* memory, float* y);
  static int64_t WinogradFloats(const LaneConv& conv);
  // Adds one block's part to sums [kWinogradPlaces][channels][PaddedFilters], which FinishWinograd makes a gradient of,
  // and to dbias, where not null.
  void AddWinograd(const LaneConv& conv, const float* x, float* rounded, const float* dy, int64_t samples, float* sums,
                   float* dbias, float* memory);
  static void FinishWinograd(const LaneConv& conv, const float* sums, float* dkernel);

  const LaneKernels& k_;
  // Null where the machine has none.
  const LanePairKernels* pairs_;
  const CpuKernels<float>& f32_;
  const int threads_;
  Scratch packed_, sums_, factors_, rounded_;
};

}  // namespace lockstep::cpu
