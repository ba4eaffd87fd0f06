// SPDX-License-Identifier: Apache-2.0
#include "worker/data/augment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "google/protobuf/util/json_util.h"

namespace lockstep {
namespace {

v1::DatasetSpec Spec(const std::string& json) {
  v1::DatasetSpec spec;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &spec).ok()) << json;
  return spec;
}

const char* const kAll = R"({"augmentation": [{"random_shift": {"vertical": 1, "horizontal": 2}},
  {"random_flip": {"horizontal": true, "vertical": true}}, {"random_crop": {"padding": 2}},
  {"random_rotation": {"degrees": 20}}, {"cutout": {"size": 2}}],
  "normalize": {"mean": [0.5], "stddev": [0.25]}})";

// Pixels 1, 2, 3, ...
std::vector<float> Image(const Shape& shape) {
  std::vector<float> image(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(i + 1);
  return image;
}

std::vector<float> Apply(const Augmenter& augmenter, const Shape& shape, int64_t epoch, int64_t sample) {
  std::vector<float> image = Image(shape), scratch(image.size());
  augmenter.Apply(epoch, sample, image.data(), scratch.data());
  return image;
}

// How often each outcome comes up in `draws` samples.
std::map<std::vector<float>, int> Outcomes(const std::string& json, const Shape& shape, int draws) {
  const Augmenter augmenter(Spec(json), shape, 7, true);
  std::map<std::vector<float>, int> outcomes;
  for (int i = 0; i < draws; ++i) ++outcomes[Apply(augmenter, shape, i % 3, i)];
  return outcomes;
}

// `outcomes` are equally likely, `of` in number: each count is within five standard deviations.
void ExpectUniform(const std::map<std::vector<float>, int>& outcomes, size_t of, int draws) {
  EXPECT_EQ(outcomes.size(), of);
  const double share = 1.0 / static_cast<double>(of), mean = draws * share;
  const double deviation = std::sqrt(draws * share * (1 - share));
  for (const auto& [image, count] : outcomes)
    EXPECT_NEAR(count, mean, 5 * deviation) << ::testing::PrintToString(image);
}

TEST(AugmenterTest, EveryShiftIsAsLikelyAsAnother) {
  ExpectUniform(Outcomes(R"({"augmentation": [{"random_shift": {"vertical": 1, "horizontal": 2}}]})", {3, 4}, 20000),
                15, 20000);
}
TEST(AugmenterTest, ACropIsAShiftByUpToThePadding) {
  ExpectUniform(Outcomes(R"({"augmentation": [{"random_crop": {"padding": 1}}]})", {2, 3, 3}, 20000), 9, 20000);
}
TEST(AugmenterTest, EachFlipIsAnEvenChance) {
  ExpectUniform(Outcomes(R"({"augmentation": [{"random_flip": {"horizontal": true}}]})", {2, 3}, 10000), 2, 10000);
  ExpectUniform(
      Outcomes(R"({"augmentation": [{"random_flip": {"horizontal": true, "vertical": true}}]})", {2, 3}, 10000), 4,
      10000);
}
TEST(AugmenterTest, EachPixelIsTheMiddleOfACutoutEquallyOften) {
  ExpectUniform(Outcomes(R"({"augmentation": [{"cutout": {"size": 1}}]})", {3, 4}, 20000), 12, 20000);
}

TEST(AugmenterTest, AnglesAreUniformInTheirRange) {
  const Shape shape{1, 3, 3};
  const double limit = 45;
  const Augmenter augmenter(Spec(R"({"augmentation": [{"random_rotation": {"degrees": 45}}]})"), shape, 3, true);
  const int draws = 20000;
  double sum = 0, squares = 0, least = 0, most = 0;
  for (int i = 0; i < draws; ++i) {
    // Each value is how far right of the middle it is, so turned it is cos dx + sin dy.
    std::vector<float> ramp{-1, 0, 1, -1, 0, 1, -1, 0, 1}, scratch(9);
    augmenter.Apply(0, i, ramp.data(), scratch.data());
    // One below the middle.
    const double degrees = std::asin(ramp[7]) * 180 / M_PI;
    sum += degrees;
    squares += degrees * degrees;
    least = std::min(least, degrees);
    most = std::max(most, degrees);
  }
  const double deviation = limit / std::sqrt(3.0);
  EXPECT_NEAR(sum / draws, 0, 5 * deviation / std::sqrt(draws));
  // The variance of x^2 for a uniform x in [-a, a] is 4/45 a^4.
  EXPECT_NEAR(squares / draws, deviation * deviation, 5 * std::sqrt(4.0 / 45 / draws) * limit * limit);
  EXPECT_GE(least, -limit - 1e-4);
  EXPECT_LE(most, limit + 1e-4);
  EXPECT_LT(least, -0.99 * limit);
  EXPECT_GT(most, 0.99 * limit);
}

TEST(AugmenterTest, NormalizesEachChannelAfterTheChanges) {
  const Augmenter each(Spec(R"({"normalize": {"mean": [1, 2], "stddev": [2, 0.5]}})"), {2, 1, 2}, 0, false);
  EXPECT_THAT(Apply(each, {2, 1, 2}, 0, 0), ::testing::ElementsAre(0, 0.5, 2, 4));
  const Augmenter all(Spec(R"({"normalize": {"mean": [1], "stddev": [2]}})"), {4}, 0, false);
  EXPECT_THAT(Apply(all, {4}, 0, 0), ::testing::ElementsAre(0, 0.5, 1, 1.5));
  // What a shift uncovers is 0 before it is normalised.
  const Augmenter both(
      Spec(R"({"augmentation": [{"cutout": {"size": 1}}], "normalize": {"mean": [1], "stddev": [1]}})"), {1, 1}, 0,
      true);
  EXPECT_THAT(Apply(both, {1, 1}, 0, 0), ::testing::ElementsAre(-1));
}

TEST(AugmenterTest, HeldOutSamplesAreOnlyNormalized) {
  const Augmenter augmenter(Spec(kAll), {4, 4}, 1, false);
  std::vector<float> expected = Image({4, 4});
  for (float& x : expected) x = (x - 0.5f) / 0.25f;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Apply(augmenter, {4, 4}, 1, i), expected);
}

TEST(AugmenterTest, WhatIsIdleSaysSo) {
  EXPECT_TRUE(Augmenter(Spec("{}"), {4}, 1, true).idle());
  EXPECT_FALSE(Augmenter(Spec(kAll), {4, 4}, 1, true).idle());
  EXPECT_TRUE(Augmenter(Spec(R"({"augmentation": [{"cutout": {"size": 1}}]})"), {4, 4}, 1, false).idle());
}

TEST(AugmenterTest, TheSameBitsInWhateverOrderAndThread) {
  const Shape shape{3, 6, 5};
  const Augmenter augmenter(Spec(kAll), shape, 11, true);
  constexpr int kSamples = 200;
  std::vector<std::vector<float>> forwards(kSamples), backwards(kSamples);
  for (int i = 0; i < kSamples; ++i) forwards[i] = Apply(augmenter, shape, 2, i);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = kSamples - 1 - t; i >= 0; i -= 3) backwards[i] = Apply(augmenter, shape, 2, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(forwards, backwards);
}

TEST(AugmenterTest, SeedEpochSampleAndPlaceEachMakeOtherDraws) {
  const Shape shape{9, 9};
  const v1::DatasetSpec spec = Spec(R"({"augmentation": [{"random_rotation": {"degrees": 90}}]})");
  std::set<std::vector<float>> images;
  for (const uint64_t seed : {uint64_t{1}, uint64_t{2}}) {
    const Augmenter augmenter(spec, shape, seed, true);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      for (int64_t sample = 0; sample < 50; ++sample) images.insert(Apply(augmenter, shape, epoch, sample));
    }
  }
  EXPECT_EQ(images.size(), 2u * 3 * 50);
  // Two equal flips in a row would undo each other if they drew the same.
  EXPECT_EQ(
      Outcomes(R"({"augmentation": [{"random_flip": {"horizontal": true}}, {"random_flip": {"horizontal": true}}]})",
               {1, 2}, 100)
          .size(),
      2u);
}

}  // namespace
}  // namespace lockstep
