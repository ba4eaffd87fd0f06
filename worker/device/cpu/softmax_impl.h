// SPDX-License-Identifier: Apache-2.0
// Softmax of rows, with the rows in the vector lanes: rows are short, and sums across a vector would take longer than
// all the rest. Each row's sum is in the order of its columns. Included only inside a kernel set's namespace.

constexpr int kSoftmaxRows = 16;
constexpr int kSoftmaxColumns = 16;

// A piece of up to 16 rows and columns, column by column; rows that are not there repeat the last one.
template <typename T>
struct SoftmaxTile {
  alignas(64) T at[kSoftmaxColumns][kSoftmaxRows];

  LOCKSTEP_INLINE void Load(const T* x, int rows, int64_t n, int columns) {
    for (int r = 0; r < kSoftmaxRows; ++r) {
      const T* row = x + (r < rows ? r : rows - 1) * n;
      for (int c = 0; c < columns; ++c) at[c][r] = row[c];
    }
  }
  LOCKSTEP_INLINE void Store(T* y, int rows, int64_t n, int columns) const {
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) y[r * n + c] = at[c][r];
    }
  }
};

// visit(first column, columns) for each piece of a row of n.
template <typename Visit>
LOCKSTEP_INLINE void ForColumns(int64_t n, Visit visit) {
  for (int64_t j = 0; j < n; j += kSoftmaxColumns) {
    visit(j, static_cast<int>(n - j < kSoftmaxColumns ? n - j : kSoftmaxColumns));
  }
}

// See CpuKernels::softmax; up to 16 rows, max and sum have room for 16.
template <typename T>
LOCKSTEP_INLINE void SoftmaxOfTile(const T* x, int rows, int64_t n, T* y, T* __restrict max, T* __restrict sum) {
  SoftmaxTile<T> tile;
  for (int r = 0; r < kSoftmaxRows; ++r) max[r] = x[(r < rows ? r : rows - 1) * n];
  ForColumns(n, [&](int64_t j, int columns) {
    tile.Load(x + j, rows, n, columns);
    for (int c = 0; c < columns; ++c) {
      for (int r = 0; r < kSoftmaxRows; ++r) max[r] = max[r] < tile.at[c][r] ? tile.at[c][r] : max[r];
    }
  });
  for (int r = 0; r < kSoftmaxRows; ++r) sum[r] = T(0);
  ForColumns(n, [&](int64_t j, int columns) {
    // A narrow row is there already.
    if (n > kSoftmaxColumns) tile.Load(x + j, rows, n, columns);
    for (int c = 0; c < columns; ++c) {
      for (int r = 0; r < kSoftmaxRows; ++r) {
        tile.at[c][r] = math::Exp(tile.at[c][r] - max[r]);
        sum[r] += tile.at[c][r];
      }
    }
    if (y == nullptr) return;
    if (n <= kSoftmaxColumns) {
      for (int c = 0; c < columns; ++c) {
        for (int r = 0; r < kSoftmaxRows; ++r) tile.at[c][r] /= sum[r];
      }
    }
    tile.Store(y + j, rows, n, columns);
  });
  if (y == nullptr || n <= kSoftmaxColumns) return;
  for (int r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < n; ++j) y[r * n + j] /= sum[r];
  }
}

template <typename T>
void Softmax(const T* x, int64_t rows, int64_t n, T* y, T* max, T* sum) {
  alignas(64) T largest[kSoftmaxRows], total[kSoftmaxRows];
  for (int64_t i = 0; i < rows; i += kSoftmaxRows) {
    const int count = static_cast<int>(rows - i < kSoftmaxRows ? rows - i : kSoftmaxRows);
    SoftmaxOfTile(x + i * n, count, n, y == nullptr ? nullptr : y + i * n, largest, total);
    for (int r = 0; r < count; ++r) {
      if (max != nullptr) max[i + r] = largest[r];
      if (sum != nullptr) sum[i + r] = total[r];
    }
  }
}
