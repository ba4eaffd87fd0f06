// SPDX-License-Identifier: Apache-2.0
#include "worker/data/augment.h"

#include <algorithm>
#include <numbers>

#include "common/rng.h"

namespace lockstep {

namespace {

// Uniform in [first, last]. Of 2^32 words one value gets at most one more than another.
int64_t Between(uint32_t word, int64_t first, int64_t last) {
  return first + static_cast<int64_t>((uint64_t{word} * static_cast<uint64_t>(last - first + 1)) >> 32);
}

}  // namespace

ImageSize ImageSizeOf(const Shape& sample) {
  if (sample.rank() == 2) return {1, sample[0], sample[1]};
  if (sample.rank() == 3) return {sample[0], sample[1], sample[2]};
  return {1, 1, sample.elements()};
}

Augmenter::Augmenter(const v1::DatasetSpec& spec, const Shape& sample, uint64_t seed, bool augments)
    : mean_(spec.normalize().mean().begin(), spec.normalize().mean().end()),
      stddev_(spec.normalize().stddev().begin(), spec.normalize().stddev().end()),
      size_(ImageSizeOf(sample)),
      seed_(seed) {
  if (augments) changes_.assign(spec.augmentation().begin(), spec.augmentation().end());
  // One number for all.
  const auto channels = static_cast<size_t>(size_.channels);
  if (mean_.size() == 1) mean_.resize(channels, mean_[0]);
  if (stddev_.size() == 1) stddev_.resize(channels, stddev_[0]);
}

void Augmenter::Apply(int64_t epoch, int64_t sample, float* pixels, float* scratch) const {
  for (size_t i = 0; i < changes_.size(); ++i) {
    const RngStream stream{seed_, RngPurpose::kAugment, (static_cast<uint64_t>(epoch) << 16) | i};
    ApplyOne(changes_[i], stream.Block(static_cast<uint64_t>(sample)).v, pixels, scratch);
  }
  if (!mean_.empty()) Normalize(pixels);
}

void Augmenter::ApplyOne(const v1::AugmentationSpec& change, const uint32_t (&draws)[4], float* pixels,
                         float* scratch) const {
  const auto shift = [&](int64_t down, int64_t right) {
    if (down == 0 && right == 0) return;
    std::copy_n(pixels, size_.elements(), scratch);
    ShiftImage(scratch, size_, down, right, pixels);
  };
  switch (change.kind_case()) {
    case v1::AugmentationSpec::kRandomShift: {
      const int64_t vertical = change.random_shift().vertical(), horizontal = change.random_shift().horizontal();
      return shift(Between(draws[0], -vertical, vertical), Between(draws[1], -horizontal, horizontal));
    }
    case v1::AugmentationSpec::kRandomFlip:
      return FlipImage(pixels, size_, change.random_flip().horizontal() && (draws[0] >> 31) != 0,
                       change.random_flip().vertical() && (draws[1] >> 31) != 0);
    case v1::AugmentationSpec::kRandomCrop: {
      // Zeros around the image and a piece cut out at a random place: a shift by up to the padding.
      const int64_t padding = change.random_crop().padding();
      return shift(Between(draws[0], -padding, padding), Between(draws[1], -padding, padding));
    }
    case v1::AugmentationSpec::kRandomRotation: {
      const double share = static_cast<double>(draws[0]) / 4294967295.0;
      const double degrees = (2 * share - 1) * change.random_rotation().degrees();
      std::copy_n(pixels, size_.elements(), scratch);
      return RotateImage(scratch, size_, degrees * (std::numbers::pi / 180), pixels);
    }
    case v1::AugmentationSpec::kCutout:
      return CutSquare(pixels, size_, Between(draws[0], 0, size_.height - 1), Between(draws[1], 0, size_.width - 1),
                       change.cutout().size());
    case v1::AugmentationSpec::KIND_NOT_SET:
      return;
  }
}

void Augmenter::Normalize(float* pixels) const {
  const int64_t plane = size_.height * size_.width;
  for (int64_t channel = 0; channel < size_.channels; ++channel, pixels += plane) {
    const float mean = mean_[channel], stddev = stddev_[channel];
    for (int64_t i = 0; i < plane; ++i) pixels[i] = (pixels[i] - mean) / stddev;
  }
}

}  // namespace lockstep
