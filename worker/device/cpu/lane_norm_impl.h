// SPDX-License-Identifier: Apache-2.0
// Into and out of blocks, and normalisation of their channels. Included only inside a kernel set's namespace.

// A sample is [channel][place] = 16 numbers after 16 numbers; each such part of all samples is transposed.
void ToLanes(const float* x, int64_t samples, int64_t channels, int64_t places, float* y) {
  const int64_t n = channels * places;
  alignas(64) float part[kLanes * kLanes] = {};
  int64_t channel = 0, place = 0;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t count = n - first < kLanes ? n - first : kLanes;
    if (count == kLanes) {
      TransposeLanes(x + first, n, samples, part, kLanes);
    } else {
      for (int64_t s = 0; s < samples; ++s) {
        for (int64_t k = 0; k < count; ++k) part[k * kLanes + s] = x[s * n + first + k];
      }
    }
    for (int64_t k = 0; k < count; ++k) {
      Vec<float>::Load(part + k * kLanes).Store(y + (place * channels + channel) * kLanes);
      if (++place == places) place = 0, ++channel;
    }
  }
}

void FromLanes(const float* x, int64_t samples, int64_t channels, int64_t places, float* y) {
  const int64_t n = channels * places;
  alignas(64) float part[kLanes * kLanes] = {}, turned[kLanes * kLanes];
  int64_t channel = 0, place = 0;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t count = n - first < kLanes ? n - first : kLanes;
    for (int64_t k = 0; k < count; ++k) {
      Vec<float>::Load(x + (place * channels + channel) * kLanes).Store(part + k * kLanes);
      if (++place == places) place = 0, ++channel;
    }
    TransposeLanes(part, kLanes, kLanes, turned, kLanes);
    for (int64_t s = 0; s < samples; ++s) {
      float* to = y + s * n + first;
      if (count == kLanes) {
        Vec<float>::Load(turned + s * kLanes).Store(to);
      } else {
        for (int64_t k = 0; k < count; ++k) to[k] = turned[s * kLanes + k];
      }
    }
  }
}

void LaneProductSums(const float* x, const float* dy, int64_t places, int64_t channels, int64_t samples, double* sums) {
  for (int64_t c = 0; c < channels; ++c) {
    double first[kLanes] = {}, second[kLanes] = {};
    for (int64_t p = 0; p < places; ++p) {
      const float* a = x + (p * channels + c) * kLanes;
      const float* b = dy + (p * channels + c) * kLanes;
      for (int l = 0; l < kLanes; ++l) {
        const double d = static_cast<double>(b[l]);
        first[l] += d;
        second[l] += d * static_cast<double>(a[l]);
      }
    }
    for (int64_t s = 0; s < samples; ++s) {
      sums[c] += first[s];
      sums[channels + c] += second[s];
    }
  }
}

void LaneScaleShift(const float* __restrict x, int64_t places, int64_t channels, const float* __restrict scale,
                    const float* __restrict shift, float* __restrict y) {
  for (int64_t p = 0; p < places; ++p) {
    for (int64_t c = 0; c < channels; ++c, x += kLanes, y += kLanes) {
      for (int l = 0; l < kLanes; ++l) y[l] = x[l] * scale[c] + shift[c];
    }
  }
}

void LaneNormBackward(const float* x, const float* dy, int64_t places, int64_t channels, int64_t samples,
                      const float* a, const float* b, const float* c, float* dx) {
  for (int64_t p = 0; p < places; ++p) {
    for (int64_t k = 0; k < channels; ++k, x += kLanes, dy += kLanes, dx += kLanes) {
      for (int l = 0; l < kLanes; ++l) dx[l] = a[k] * dy[l] + b[k] * x[l] + c[k];
      for (int64_t l = samples; l < kLanes; ++l) dx[l] = 0.0f;
    }
  }
}
