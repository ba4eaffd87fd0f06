// SPDX-License-Identifier: Apache-2.0
#include "common/formats/synthetic_digits.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/formats/idx.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

class SyntheticDigitsTest : public FolderTest {
 protected:
  IdxData Read(const std::string& name) {
    const TestFd fd(Path(absl::StrCat("d/", name)));
    auto data = ReadIdx(fd.get(), name);
    EXPECT_TRUE(data.ok()) << data.status();
    return data.ok() ? *data : IdxData{};
  }
};

TEST_F(SyntheticDigitsTest, WritesMnistsFourFiles) {
  ASSERT_TRUE(WriteSyntheticDigits(Path("d"), 300, 40, 5).ok());
  const IdxData images = Read("train-images-idx3-ubyte"), labels = Read("train-labels-idx1-ubyte");
  EXPECT_EQ(images.shape, (Shape{300, 28, 28}));
  EXPECT_EQ(labels.shape, (Shape{300}));
  EXPECT_EQ(Read("t10k-images-idx3-ubyte").shape, (Shape{40, 28, 28}));
  EXPECT_EQ(Read("t10k-labels-idx1-ubyte").shape, (Shape{40}));
  const SyntheticDigit digit = DrawDigit(5, 123);
  EXPECT_EQ(labels.values[123], digit.label);
  EXPECT_TRUE(std::equal(digit.pixels.begin(), digit.pixels.end(), images.values.begin() + 123 * 784));
}

TEST_F(SyntheticDigitsTest, ASampleIsAFunctionOfSeedAndPlace) {
  EXPECT_EQ(DrawDigit(1, 7).pixels, DrawDigit(1, 7).pixels);
  EXPECT_NE(DrawDigit(1, 7).pixels, DrawDigit(2, 7).pixels);
  EXPECT_NE(DrawDigit(1, 7).pixels, DrawDigit(1, 8).pixels);
}

TEST_F(SyntheticDigitsTest, EveryDigitIsDrawnInsideTheImage) {
  std::set<int> labels;
  for (uint64_t i = 0; i < 500; ++i) {
    const SyntheticDigit digit = DrawDigit(3, i);
    labels.insert(digit.label);
    const auto inked = std::ranges::count_if(digit.pixels, [](uint8_t p) { return p > 120; });
    EXPECT_GT(inked, 12) << i;
    EXPECT_LT(inked, 400) << i;
  }
  EXPECT_EQ(labels.size(), 10u);
}

// What can be told apart by the nearest mean is most, but not all.
TEST_F(SyntheticDigitsTest, IsNeitherTrivialNorNoise) {
  std::vector<std::vector<double>> means(10, std::vector<double>(784));
  std::vector<int> counts(10);
  for (uint64_t i = 0; i < 3000; ++i) {
    const SyntheticDigit digit = DrawDigit(1, i);
    ++counts[digit.label];
    for (size_t p = 0; p < 784; ++p) means[digit.label][p] += digit.pixels[p];
  }
  int right = 0;
  for (uint64_t i = 10000; i < 11000; ++i) {
    const SyntheticDigit digit = DrawDigit(1, i);
    size_t best = 0;
    double best_distance = 1e300;
    for (size_t k = 0; k < 10; ++k) {
      double distance = 0;
      for (size_t p = 0; p < 784; ++p) {
        const double difference = means[k][p] / counts[k] - digit.pixels[p];
        distance += difference * difference;
      }
      if (distance < best_distance) {
        best_distance = distance;
        best = k;
      }
    }
    right += best == digit.label;
  }
  EXPECT_GT(right, 450);
  EXPECT_LT(right, 950);
}

TEST_F(SyntheticDigitsTest, RefusesAWrongCountAndAFolderThatCannotBe) {
  EXPECT_FALSE(WriteSyntheticDigits(Path("d"), 0, 1, 1).ok());
  EXPECT_FALSE(WriteSyntheticDigits(Path("d"), 1, 1'000'000'000, 1).ok());
  EXPECT_FALSE(WriteSyntheticDigits(Write("file", "x") + "/below", 1, 1, 1).ok());
}

}  // namespace
}  // namespace lockstep
