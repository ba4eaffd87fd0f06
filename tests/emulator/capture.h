// SPDX-License-Identifier: Apache-2.0
// Graphs of the emulated CUDA: while a stream is captured, what is put on it is kept instead of done.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

namespace lockstep::emulated {

// Does the work, or keeps it where the calling thread captures its stream. It owns all that it needs.
void Enqueue(std::function<void()> work);
// The calling thread captures.
bool Capturing();
// Ends the program where the calling thread captures, and not this stream: on a GPU the work would be done at once, and
// would be missing in the graph.
void CheckStream(cudaStream_t stream);
// Pieces of work that were done by graphs so far, and launches of graphs.
struct GraphCounts {
  int64_t launches = 0;
  int64_t nodes = 0;
};
GraphCounts CountGraphs();

}  // namespace lockstep::emulated
