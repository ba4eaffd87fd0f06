// SPDX-License-Identifier: Apache-2.0
// A number of a sample as the model sees it, however it is gathered.
#pragma once

namespace lockstep::cuda {

template <typename S, typename T>
__device__ T Gathered(S stored, T scale, T offset) {
  return static_cast<T>(stored) * scale + offset;
}

}  // namespace lockstep::cuda
