// SPDX-License-Identifier: Apache-2.0
// Rows of a matrix to rows of another one, and steps of some rows. Included only inside a kernel set's namespace. Loops
// of their own: a call of the library's memcpy takes longer than a short row.

template <typename T>
LOCKSTEP_INLINE void CopyRow(const T* from, int64_t n, T* to) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) Vec<T>::Load(from + j).Store(to + j);
  if (j < n) Vec<T>::LoadFirst(from + j, n - j).StoreFirst(to + j, n - j);
}

// Elements [first, end).
template <typename T>
LOCKSTEP_INLINE void Clear(T* first, T* end) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const Vec<T> zero = Vec<T>::Broadcast(T(0));
  for (; end - first >= kLanes; first += kLanes) {
    zero.Store(first);
    // No call of memset.
    asm volatile("" ::: "memory");
  }
  zero.StoreFirst(first, end - first);
}

template <typename T>
void SpreadRows(const T* from, const uint16_t* rows, int64_t count, int64_t n, int64_t total, T* to) {
  int64_t next = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = rows[i];
    Clear(to + next * n, to + row * n);
    CopyRow(from + i * n, n, to + row * n);
    next = row + 1;
  }
  Clear(to + next * n, to + total * n);
}

// The arithmetic of UpdateRule::kSgd.
template <typename T>
void StepRows(T rate, const T* __restrict g, const uint16_t* rows, int64_t count, int64_t n, T* __restrict w) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const SgdMath<T> math(UpdateArgs{.step_size = static_cast<double>(rate)});
  const auto step = [&](T& weight, T gradient) { math(weight, gradient); };
  for (int64_t i = 0; i < count; ++i, g += n) {
    T* const to = w + rows[i] * n;
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) {
      for (int64_t q = 0; q < kLanes; ++q) step(to[j + q], g[j + q]);
    }
    for (; j < n; ++j) step(to[j], g[j]);
  }
}
