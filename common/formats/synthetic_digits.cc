// SPDX-License-Identifier: Apache-2.0
#include "common/formats/synthetic_digits.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/formats/idx.h"
#include "common/rng.h"
#include "common/shape.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr int64_t kMaxSamples = 10'000'000;
constexpr uint64_t kFirstTestSample = uint64_t{1} << 32;

struct Point {
  float x;
  float y;
};
using Stroke = std::vector<Point>;
using Glyph = std::vector<Stroke>;

// Part of an ellipse; angles in degrees, 0 to the right, 90 downwards.
void Arc(Stroke& stroke, Point centre, Point radius, float from, float to) {
  constexpr int kSteps = 10;
  for (int i = 0; i <= kSteps; ++i) {
    const float angle = (from + (to - from) * static_cast<float>(i) / kSteps) * std::numbers::pi_v<float> / 180.0f;
    stroke.push_back({centre.x + radius.x * std::cos(angle), centre.y + radius.y * std::sin(angle)});
  }
}

Stroke ArcStroke(Point centre, Point radius, float from, float to) {
  Stroke stroke;
  Arc(stroke, centre, radius, from, to);
  return stroke;
}

// In a box from (0, 0) to (1, 1), y downwards. Some digits are written in two ways.
Glyph MakeGlyph(int digit, bool variant) {
  switch (digit) {
    case 0:
      return {ArcStroke({0.5f, 0.5f}, {variant ? 0.28f : 0.36f, 0.48f}, 0, 360)};
    case 1:
      if (variant) return {{{0.3f, 0.22f}, {0.52f, 0.02f}, {0.52f, 0.98f}}};
      return {{{0.5f, 0.02f}, {0.5f, 0.98f}}};
    case 2: {
      Stroke top = ArcStroke({0.5f, 0.3f}, {0.34f, 0.28f}, 190, 390);
      top.insert(top.end(), {{0.16f, 0.96f}, {0.88f, 0.96f}});
      return {top};
    }
    case 3: {
      Stroke both = ArcStroke({0.46f, 0.27f}, {0.32f, 0.25f}, 210, 450);
      Arc(both, {0.46f, 0.73f}, {0.36f, 0.25f}, 270, 510);
      return {both};
    }
    case 4:
      if (variant) return {{{0.68f, 0.98f}, {0.68f, 0.02f}, {0.12f, 0.68f}, {0.92f, 0.68f}}};
      return {{{0.2f, 0.04f}, {0.16f, 0.55f}, {0.84f, 0.55f}}, {{0.74f, 0.04f}, {0.7f, 0.98f}}};
    case 5: {
      Stroke stroke{{0.82f, 0.04f}, {0.28f, 0.04f}, {0.22f, 0.44f}};
      Arc(stroke, {0.46f, 0.68f}, {0.36f, 0.28f}, 230, 500);
      return {stroke};
    }
    case 6: {
      Stroke stroke{{0.7f, 0.03f}, {0.42f, 0.2f}, {0.22f, 0.5f}};
      Arc(stroke, {0.5f, 0.7f}, {0.32f, 0.27f}, 180, -180);
      return {stroke};
    }
    case 7:
      if (variant) return {{{0.12f, 0.05f}, {0.86f, 0.05f}, {0.38f, 0.98f}}, {{0.3f, 0.5f}, {0.76f, 0.5f}}};
      return {{{0.12f, 0.05f}, {0.86f, 0.05f}, {0.38f, 0.98f}}};
    case 8:
      return {ArcStroke({0.5f, 0.26f}, {0.27f, 0.24f}, 90, 450), ArcStroke({0.5f, 0.74f}, {0.33f, 0.24f}, -90, 270)};
    default: {
      Stroke stroke = ArcStroke({0.5f, 0.3f}, {0.3f, 0.27f}, 0, 360);
      stroke.insert(stroke.end(), {{0.78f, 0.5f}, variant ? Point{0.5f, 0.98f} : Point{0.74f, 0.98f}});
      return {stroke};
    }
  }
}

const Glyph& GlyphOf(int digit, bool variant) {
  static const auto* const kGlyphs = [] {
    auto* glyphs = new std::vector<Glyph>;
    for (int i = 0; i < 20; ++i) glyphs->push_back(MakeGlyph(i / 2, i % 2 == 1));
    return glyphs;
  }();
  return (*kGlyphs)[static_cast<size_t>(digit) * 2 + (variant ? 1 : 0)];
}

// Named draws of one sample. The noise follows behind them.
class Draws {
 public:
  Draws(uint64_t seed, uint64_t index) : stream_{seed, RngPurpose::kSynthetic, index} {}

  uint32_t Word(uint64_t i) const { return stream_.Word(i); }
  float Between(uint64_t i, float low, float high) const { return low + (high - low) * stream_.Uniform(i); }
  // Four bytes of noise.
  uint32_t Noise(uint64_t i) const { return stream_.Word(64 + i); }

 private:
  RngStream stream_;
};

// From the glyph's box to pixels: bent, scaled, sheared, rotated, moved.
class Placement {
 public:
  explicit Placement(const Draws& draws) {
    const float angle = draws.Between(2, -0.36f, 0.36f), shear = draws.Between(3, -0.36f, 0.36f);
    const float width = draws.Between(4, 11.0f, 19.0f), height = draws.Between(5, 15.0f, 21.5f);
    const float c = std::cos(angle), s = std::sin(angle);
    xx_ = c * width;
    xy_ = (c * shear - s) * height;
    yx_ = s * width;
    yy_ = (s * shear + c) * height;
    dx_ = 13.5f + draws.Between(6, -2.7f, 2.7f);
    dy_ = 13.5f + draws.Between(7, -2.7f, 2.7f);
    bend_x_ = draws.Between(8, -0.12f, 0.12f);
    bend_y_ = draws.Between(9, -0.12f, 0.12f);
    phase_ = draws.Between(10, 0.0f, 6.2831853f);
  }

  Point operator()(Point p) const {
    const float x = p.x - 0.5f + bend_x_ * std::sin(5.0f * p.y + phase_);
    const float y = p.y - 0.5f + bend_y_ * std::sin(5.0f * p.x + phase_);
    return {xx_ * x + xy_ * y + dx_, yx_ * x + yy_ * y + dy_};
  }

 private:
  float xx_, xy_, yx_, yy_, dx_, dy_, bend_x_, bend_y_, phase_;
};

float DistanceToSegment(float x, float y, Point a, Point b) {
  const float ux = b.x - a.x, uy = b.y - a.y;
  const float length = ux * ux + uy * uy;
  float t = length > 0 ? ((x - a.x) * ux + (y - a.y) * uy) / length : 0.0f;
  t = std::clamp(t, 0.0f, 1.0f);
  const float ex = x - a.x - t * ux, ey = y - a.y - t * uy;
  return std::sqrt(ex * ex + ey * ey);
}

using Ink = std::array<float, kDigitSide * kDigitSide>;

// Full ink within `radius` of the line, none one pixel further, a slope between.
void DrawSegment(Ink& ink, Point a, Point b, float radius) {
  const float reach = radius + 1.0f;
  const auto clip = [](float v) { return std::clamp(static_cast<int>(v), 0, kDigitSide - 1); };
  const int x0 = clip(std::min(a.x, b.x) - reach), x1 = clip(std::max(a.x, b.x) + reach + 1.0f);
  const int y0 = clip(std::min(a.y, b.y) - reach), y1 = clip(std::max(a.y, b.y) + reach + 1.0f);
  for (int y = y0; y <= y1; ++y) {
    for (int x = x0; x <= x1; ++x) {
      const float distance = DistanceToSegment(static_cast<float>(x), static_cast<float>(y), a, b);
      float& at = ink[static_cast<size_t>(y) * kDigitSide + static_cast<size_t>(x)];
      at = std::max(at, std::clamp(reach - distance, 0.0f, 1.0f));
    }
  }
}

absl::Status WritePart(const std::filesystem::path& folder, const std::string& prefix, uint64_t first, int64_t count,
                       uint64_t seed) {
  std::vector<uint8_t> images, labels;
  images.reserve(static_cast<size_t>(count) * kDigitSide * kDigitSide);
  labels.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const SyntheticDigit digit = DrawDigit(seed, first + static_cast<uint64_t>(i));
    images.insert(images.end(), digit.pixels.begin(), digit.pixels.end());
    labels.push_back(digit.label);
  }
  LOCKSTEP_RETURN_IF_ERROR(
      WriteIdx((folder / (prefix + "-images-idx3-ubyte")).string(), Shape{count, kDigitSide, kDigitSide}, images));
  return WriteIdx((folder / (prefix + "-labels-idx1-ubyte")).string(), Shape{count}, labels);
}

}  // namespace

SyntheticDigit DrawDigit(uint64_t seed, uint64_t index) {
  const Draws draws(seed, index);
  SyntheticDigit digit;
  digit.label = static_cast<uint8_t>(draws.Word(0) % 10);
  const Placement place(draws);
  const float radius = draws.Between(11, 0.45f, 1.5f);
  Ink ink{};
  for (const Stroke& stroke : GlyphOf(digit.label, (draws.Word(1) & 1) != 0)) {
    Point last = place(stroke[0]);
    for (size_t i = 1; i < stroke.size(); ++i) {
      const Point next = place(stroke[i]);
      DrawSegment(ink, last, next, radius);
      last = next;
    }
  }
  const float strength = draws.Between(12, 170.0f, 255.0f);
  const float noise = draws.Between(13, 0.0f, 110.0f);
  for (size_t i = 0; i < ink.size(); ++i) {
    const uint32_t bytes = draws.Noise(i / 4);
    const float grain = static_cast<float>((bytes >> (i % 4 * 8)) & 0xFF) / 255.0f - 0.5f;
    digit.pixels[i] = static_cast<uint8_t>(std::clamp(ink[i] * strength + grain * noise, 0.0f, 255.0f));
  }
  return digit;
}

absl::Status WriteSyntheticDigits(const std::string& folder, int64_t train, int64_t test, uint64_t seed) {
  for (int64_t count : {train, test}) {
    if (count < 1 || count > kMaxSamples) {
      return absl::InvalidArgumentError(
          absl::StrCat("the number of samples must be 1 to ", kMaxSamples, ", not ", count));
    }
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot make the folder ", folder, ": ", error.message()));
  LOCKSTEP_RETURN_IF_ERROR(WritePart(folder, "train", 0, train, seed));
  return WritePart(folder, "t10k", kFirstTestSample, test, seed);
}

}  // namespace lockstep
