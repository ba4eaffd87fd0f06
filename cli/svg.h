// SPDX-License-Identifier: Apache-2.0
// Two kinds of picture as SVG text, and bars for a terminal.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lockstep::cli {

struct Series {
  std::string name;
  // (x, y), by rising x; x greater than 0.
  std::vector<std::pair<double, double>> points;
};

struct ChartText {
  std::string title;
  std::string x;
  std::string y;
};

// Lines over a logarithmic axis to base 2, from y = 0.
std::string LineChart(const ChartText& text, const std::vector<Series>& series);

// One bar a row, made of the parts that `parts` names; values at least 0.
struct BarRow {
  std::string name;
  std::vector<double> values;
  // Behind the bar.
  std::string note;
};
std::string StackedBars(const ChartText& text, const std::vector<std::string>& parts, const std::vector<BarRow>& rows);

// "█████▌": `value` of `greatest` in at most `width` columns; # where plain characters are asked for.
std::string TextBar(double value, double greatest, int width, bool ascii);

}  // namespace lockstep::cli
