// SPDX-License-Identifier: Apache-2.0
// Vec<float>: the generic one, which rounds the product. Included only inside a kernel set's namespace.

// Rows of a tile, as many as the registers hold.
constexpr int kMaxTileRows = 2;
