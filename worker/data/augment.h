// SPDX-License-Identifier: Apache-2.0
// Augmenter: changes and normalises one sample after another as the job asks. Every draw is a function of
// (seed, epoch, sample, place in the list of changes): order, rank and thread never change it.
#pragma once

#include <cstdint>
#include <vector>

#include "common/shape.h"
#include "lockstep/v1/job.pb.h"
#include "worker/data/image_ops.h"

namespace lockstep {

class Augmenter {
 public:
  // `spec`'s augmentation and normalize, which fit samples of this shape (CheckInput). `augments` false: held-out
  // samples, which are only normalised.
  Augmenter(const lockstep::v1::DatasetSpec& spec, const Shape& sample, uint64_t seed, bool augments);

  // Nothing is ever changed.
  bool idle() const { return changes_.empty() && mean_.empty(); }

  // Changes the sample in place. `scratch` has room for as many floats. Any thread; allocates nothing.
  void Apply(int64_t epoch, int64_t sample, float* pixels, float* scratch) const;

 private:
  void ApplyOne(const lockstep::v1::AugmentationSpec& change, const uint32_t (&draws)[4], float* pixels,
                float* scratch) const;
  void Normalize(float* pixels) const;

  std::vector<lockstep::v1::AugmentationSpec> changes_;
  // For each channel, or one for all; both empty: none.
  std::vector<float> mean_;
  std::vector<float> stddev_;
  ImageSize size_;
  uint64_t seed_;
};

// The sample as channels of rows and columns: [h, w], [c, h, w], else all in one row.
ImageSize ImageSizeOf(const Shape& sample);

}  // namespace lockstep
