// SPDX-License-Identifier: Apache-2.0
// Operations of Device that move and combine elements; see there.
#pragma once

#include <cstdint>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void Copy(Context& context, Tensor from, Tensor to);
void Fill(Context& context, Tensor out, double value);
void Add(Context& context, Tensor a, Tensor b, Tensor out);
void GatherRows(Context& context, Tensor rows, Tensor indices, const GatherArgs& args, Tensor out);
void GatherLabels(Context& context, Tensor labels, Tensor indices, Tensor out);
void CopyBlocks(Context& context, Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout,
                int64_t blocks, int64_t width, bool add);
void Convert(Context& context, Tensor from, double scale, Tensor to);
void Blend(Context& context, double keep, Tensor from, Tensor to);

}  // namespace lockstep::cuda
