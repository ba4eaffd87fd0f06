// SPDX-License-Identifier: Apache-2.0
// Vec<float>: the generic one. Included only by kernels_impl.h, inside its namespace.

// Rows of a tile, as many as the registers hold.
constexpr int kMaxTileRows = 2;
