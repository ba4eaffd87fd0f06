// SPDX-License-Identifier: Apache-2.0
#include "worker/data/image_ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numbers>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

// Two channels of 2 x 3; the second is ten times the first.
constexpr ImageSize kSize{2, 2, 3};
const std::vector<float> kImage{1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60};

std::vector<float> Shifted(int64_t down, int64_t right) {
  std::vector<float> out(kImage.size(), -1);
  ShiftImage(kImage.data(), kSize, down, right, out.data());
  return out;
}

TEST(ShiftImageTest, MovesAndUncoversZeros) {
  EXPECT_THAT(Shifted(0, 0), ElementsAreArray(kImage));
  EXPECT_THAT(Shifted(1, 0), ElementsAre(0, 0, 0, 1, 2, 3, 0, 0, 0, 10, 20, 30));
  EXPECT_THAT(Shifted(-1, 1), ElementsAre(0, 4, 5, 0, 0, 0, 0, 40, 50, 0, 0, 0));
  EXPECT_THAT(Shifted(0, -2), ElementsAre(3, 0, 0, 6, 0, 0, 30, 0, 0, 60, 0, 0));
}

TEST(ShiftImageTest, MayMoveAllOfItOut) {
  for (const int64_t far : {int64_t{3}, int64_t{-3}, int64_t{100}, int64_t{-100}}) {
    EXPECT_THAT(Shifted(0, far), ::testing::Each(0)) << far;
    EXPECT_THAT(Shifted(far, 0), ::testing::Each(0)) << far;
  }
}

TEST(FlipImageTest, MirrorsEachChannel) {
  std::vector<float> image = kImage;
  FlipImage(image.data(), kSize, true, false);
  EXPECT_THAT(image, ElementsAre(3, 2, 1, 6, 5, 4, 30, 20, 10, 60, 50, 40));
  image = kImage;
  FlipImage(image.data(), kSize, false, true);
  EXPECT_THAT(image, ElementsAre(4, 5, 6, 1, 2, 3, 40, 50, 60, 10, 20, 30));
  FlipImage(image.data(), kSize, true, true);
  EXPECT_THAT(image, ElementsAre(3, 2, 1, 6, 5, 4, 30, 20, 10, 60, 50, 40));
  image = kImage;
  FlipImage(image.data(), kSize, false, false);
  EXPECT_THAT(image, ElementsAreArray(kImage));
}

TEST(CutSquareTest, IsCutOffAtTheEdges) {
  const ImageSize size{1, 3, 4};
  const auto cut = [&](int64_t y, int64_t x, int64_t side) {
    std::vector<float> image(12, 1);
    CutSquare(image.data(), size, y, x, side);
    return image;
  };
  EXPECT_THAT(cut(1, 2, 1), ElementsAre(1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1));
  EXPECT_THAT(cut(1, 2, 2), ElementsAre(1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1));
  EXPECT_THAT(cut(0, 0, 3), ElementsAre(0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(cut(2, 3, 3), ElementsAre(1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0));
}

TEST(RotateImageTest, AQuarterTurnMovesPixels) {
  // Clockwise as drawn.
  const std::vector<float> image{1, 2, 3, 4};
  std::vector<float> out(4);
  RotateImage(image.data(), {1, 2, 2}, std::numbers::pi / 2, out.data());
  const std::vector<float> expected{3, 1, 4, 2};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(out[i], expected[i], 1e-6) << i;
}

TEST(RotateImageTest, NoTurnIsTheSameImage) {
  std::vector<float> out(kImage.size());
  RotateImage(kImage.data(), kSize, 0, out.data());
  EXPECT_THAT(out, ElementsAreArray(kImage));
}

TEST(RotateImageTest, IsWhatPyTorchComputes) {
  std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/rotation.json");
  const auto fixture = nlohmann::json::parse(file);
  ASSERT_GE(fixture["cases"].size(), 3u);
  for (const auto& one : fixture["cases"]) {
    const ImageSize size{one["shape"][0], one["shape"][1], one["shape"][2]};
    const auto image = one["image"].get<std::vector<float>>();
    const auto expected = one["rotated"].get<std::vector<double>>();
    std::vector<float> out(image.size());
    RotateImage(image.data(), size, one["degrees"].get<double>() * std::numbers::pi / 180, out.data());
    float largest = 0;
    for (const float value : image) largest = std::max(largest, std::fabs(value));
    // Four products whose weights sum to 1: each weight, product and sum is rounded once.
    const double tolerance = 6 * std::ldexp(1.0, -24) * largest;
    for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected[i], tolerance) << one["shape"] << " at " << i;
  }
}

}  // namespace
}  // namespace lockstep
