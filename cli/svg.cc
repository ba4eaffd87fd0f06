// SPDX-License-Identifier: Apache-2.0
#include "cli/svg.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace lockstep::cli {

namespace {

constexpr double kWidth = 760, kHeight = 420;
constexpr double kLeft = 70, kRight = 110, kTop = 46, kBottom = 52;
// Told apart by people who do not see red and green as two (Okabe and Ito, 2008).
constexpr std::array<const char*, 5> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"};

const char* Colour(size_t i) { return kColours[i % kColours.size()]; }

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Text(double x, double y, const char* anchor, const std::string& text, const char* extra = "") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, extra,
                         Escape(text));
}

std::string Line(double x1, double y1, double x2, double y2, const char* colour) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2,
                         colour);
}

std::string Rectangle(double x, double y, double width, double height, const char* colour) {
  return absl::StrFormat("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"/>\n", x, y, width,
                         height, colour);
}

std::string Begin(const ChartText& text, double height) {
  return absl::StrFormat(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" "
             "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
             kWidth, height, kWidth, height) +
         Text(kLeft, 24, "start", text.title, " font-size=\"15\" font-weight=\"bold\"");
}

// A few multiples, from 0, of a round number that do not exceed `greatest`.
std::vector<double> Ticks(double greatest) {
  const double raw = greatest / 5;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (raw <= factor * power) step = factor * power;
  }
  std::vector<double> ticks;
  for (int i = 0; i * step <= greatest; ++i) ticks.push_back(i * step);
  return ticks;
}

double Greatest(double value) { return value > 0 && std::isfinite(value) ? value : 1; }

}  // namespace

std::string LineChart(const ChartText& text, const std::vector<Series>& series) {
  double low = INFINITY, high = 0, greatest = 0;
  for (const Series& s : series) {
    for (const auto& [x, y] : s.points) {
      low = std::min(low, std::log2(x));
      high = std::max(high, std::log2(x));
      greatest = std::max(greatest, y);
    }
  }
  greatest = 1.05 * Greatest(greatest);
  if (!(high > low)) {
    low = std::isfinite(low) ? low - 0.5 : 0;
    high = low + 1;
  }
  const double right = kWidth - kRight, bottom = kHeight - kBottom;
  const auto place_x = [&](double x) { return kLeft + (std::log2(x) - low) / (high - low) * (right - kLeft); };
  const auto place_y = [&](double y) { return bottom - y / greatest * (bottom - kTop); };

  std::string svg = Begin(text, kHeight);
  for (const double y : Ticks(greatest)) {
    svg += Line(kLeft, place_y(y), right, place_y(y), "#ddd");
    svg += Text(kLeft - 8, place_y(y) + 4, "end", absl::StrFormat("%g", y));
  }
  for (int power = static_cast<int>(std::ceil(low)); power <= high + 1e-9; ++power) {
    const double x = std::exp2(power);
    svg += Line(place_x(x), bottom, place_x(x), bottom + 5, "#222");
    svg += Text(place_x(x), bottom + 19, "middle", absl::StrFormat("%g", x));
  }
  svg += Line(kLeft, bottom, right, bottom, "#222");
  svg += Text((kLeft + right) / 2, kHeight - 12, "middle", text.x);
  svg += absl::StrFormat("<g transform=\"translate(18 %.1f) rotate(-90)\">", (kTop + bottom) / 2) +
         Text(0, 0, "middle", text.y) + "</g>\n";
  for (size_t i = 0; i < series.size(); ++i) {
    std::string points;
    for (const auto& [x, y] : series[i].points) {
      absl::StrAppendFormat(&points, "%s%.1f,%.1f", points.empty() ? "" : " ", place_x(x), place_y(y));
      svg +=
          absl::StrFormat("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", place_x(x), place_y(y), Colour(i));
    }
    svg += absl::StrFormat("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points,
                           Colour(i));
    const double y = kTop + 8 + 20 * static_cast<double>(i);
    svg += Rectangle(right + 14, y, 12, 12, Colour(i)) + Text(right + 32, y + 11, "start", series[i].name);
  }
  return svg + "</svg>\n";
}

std::string StackedBars(const ChartText& text, const std::vector<std::string>& parts, const std::vector<BarRow>& rows) {
  constexpr double kNames = 190, kNotes = 200, kRow = 26;
  const double height = kTop + 34 + kRow * static_cast<double>(rows.size()) + 40;
  double greatest = 0;
  for (const BarRow& row : rows) {
    double sum = 0;
    for (const double value : row.values) sum += value;
    greatest = std::max(greatest, sum);
  }
  greatest = Greatest(greatest);
  const double room = kWidth - kNames - kNotes;
  std::string svg = Begin(text, height);
  double x = kNames;
  for (size_t i = 0; i < parts.size(); ++i) {
    svg += Rectangle(x, kTop, 12, 12, Colour(i)) + Text(x + 18, kTop + 11, "start", parts[i]);
    x += 100;
  }
  double y = kTop + 28;
  const double top = y, bottom = y + kRow * static_cast<double>(rows.size());
  for (const double tick : Ticks(greatest)) {
    const double at = kNames + tick / greatest * room;
    svg += Line(at, top, at, bottom, "#ddd") + Text(at, bottom + 16, "middle", absl::StrFormat("%g", tick));
  }
  for (const BarRow& row : rows) {
    svg += Text(kNames - 8, y + 16, "end", row.name);
    x = kNames;
    for (size_t i = 0; i < row.values.size(); ++i) {
      const double width = row.values[i] / greatest * room;
      svg += Rectangle(x, y + 4, width, kRow - 8, Colour(i));
      x += width;
    }
    svg += Text(x + 8, y + 16, "start", row.note);
    y += kRow;
  }
  return svg + Text(kNames + room / 2, height - 6, "middle", text.x) + "</svg>\n";
}

std::string TextBar(double value, double greatest, int width, bool ascii) {
  if (!(value > 0) || !(greatest > 0)) return "";
  const int eighths = static_cast<int>(std::lround(std::min(1.0, value / greatest) * width * 8));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += ascii ? "#" : "█";
  constexpr std::array<const char*, 8> kParts{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  return ascii ? bar : bar + kParts[static_cast<size_t>(eighths % 8)];
}

}  // namespace lockstep::cli
