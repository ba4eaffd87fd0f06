// SPDX-License-Identifier: Apache-2.0
// Vec<float>: the generic one, which rounds the product. Included only inside a kernel set's namespace.

// Rows of a tile one and two vectors wide, as many as the registers hold.
constexpr int kTileRowsOfOne = 3;
constexpr int kTileRowsOfTwo = 2;
// Rows of a panel one vector wide that stay in the registers.
constexpr int kShortDepth = 1;
