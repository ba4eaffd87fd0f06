// SPDX-License-Identifier: Apache-2.0
#include "cli/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace lockstep::cli {

namespace {

// Below it, waiting for data is nothing to look into.
constexpr double kNotedWaitShare = 0.05;

}  // namespace

std::string Count(double value) {
  if (value >= 1e12) return absl::StrFormat("%.2fT", value / 1e12);
  if (value >= 1e9) return absl::StrFormat("%.2fG", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.2fM", value / 1e6);
  if (value >= 1e3) return absl::StrFormat("%.1fk", value / 1e3);
  return absl::StrFormat("%.0f", value);
}

std::string Duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "--:--";
  const int64_t s = static_cast<int64_t>(std::llround(seconds));
  if (s >= 3600) return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
  return absl::StrFormat("%d:%02d", s / 60, s % 60);
}

std::string StateName(v1::JobState state) {
  constexpr absl::string_view kPrefix = "JOB_STATE_";
  return absl::AsciiStrToLower(v1::JobState_Name(state).substr(kPrefix.size()));
}

int WorkersOf(const v1::Job& job) { return job.workers() > 0 ? job.workers() : job.spec().resources().workers(); }

std::string Age(double seconds) {
  if (seconds < 120) return absl::StrFormat("%.0fs", std::max(0.0, seconds));
  if (seconds < 7200) return absl::StrFormat("%.0fm", std::floor(seconds / 60));
  if (seconds < 172800) return absl::StrFormat("%.0fh", std::floor(seconds / 3600));
  return absl::StrFormat("%.0fd", std::floor(seconds / 86400));
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 3, ' ');
    }
    absl::StripTrailingAsciiWhitespace(&line);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string ProgressLine(const ProgressState& state, int width) {
  const double total = static_cast<double>(std::max<int64_t>(state.total_steps, 1));
  const double share = static_cast<double>(state.step) / total;
  const int64_t per_epoch = state.total_epochs > 0 ? std::max<int64_t>(state.total_steps / state.total_epochs, 1) : 1;
  const int64_t epoch = std::min(state.total_epochs, state.step / per_epoch + 1);
  const double left =
      state.steps_per_second > 0 ? (total - static_cast<double>(state.step)) / state.steps_per_second : -1;
  std::string tail = absl::StrFormat(" step %d/%d  loss %.4f", state.step, state.total_steps, state.loss);
  if (state.classification) absl::StrAppend(&tail, absl::StrFormat("  acc %.4f", state.accuracy));
  absl::StrAppend(&tail, "  ", Count(state.samples_per_second), " samples/s  ", Duration(left), " left");
  if (state.data_wait_share >= kNotedWaitShare) {
    absl::StrAppend(&tail, absl::StrFormat("  %.0f %% data wait", 100 * state.data_wait_share));
  }
  const std::string head = state.total_epochs > 0 ? absl::StrFormat("epoch %d/%d ", epoch, state.total_epochs) : "";
  const int room = std::clamp(width - static_cast<int>(head.size() + tail.size()) - 3, 0, 30);
  std::string bar;
  if (room >= 5) {
    const int done = static_cast<int>(share * room);
    bar = "[" + std::string(static_cast<size_t>(done), '=') + (done < room ? ">" : "") +
          std::string(static_cast<size_t>(std::max(0, room - done - 1)), ' ') + "]";
  }
  return (head + bar + tail).substr(0, static_cast<size_t>(std::max(width, 1)));
}

std::string StateLine(const v1::StateChanged& change) {
  if (change.reason().empty()) return StateName(change.state());
  if (change.state() == v1::JOB_STATE_STARTING) {
    // "starting 2 workers", or why and then the same.
    return absl::StartsWith(change.reason(), "starting ") ? change.reason()
                                                          : absl::StrCat("starting again: ", change.reason());
  }
  std::string reason = change.reason();
  // "no progress through 3 restarts: (1) ...; (2) ..."
  for (int cause = 1; absl::StrContains(reason, absl::StrCat(" (", cause, ") ")) && cause < 10; ++cause) {
    const std::string number = absl::StrCat("(", cause, ") ");
    reason = absl::StrReplaceAll(reason, {{absl::StrCat("; ", number), absl::StrCat("\n  ", number)},
                                          {absl::StrCat(": ", number), absl::StrCat(":\n  ", number)}});
  }
  return absl::StrCat(StateName(change.state()), ": ", reason);
}

namespace {

// Those that have a field of their own are shown by it, and a matrix is no figure of a line.
std::string OtherMetrics(const google::protobuf::RepeatedPtrField<v1::MetricValue>& metrics) {
  std::string text;
  for (const v1::MetricValue& metric : metrics) {
    if (metric.name() == "accuracy" || metric.name() == "r_squared" || metric.matrix_size() > 0) continue;
    absl::StrAppendFormat(&text, "  %s %.4f", metric.name(), metric.value());
  }
  return text;
}

}  // namespace

std::string ConfusionTable(const v1::MetricValue& metric) {
  constexpr int kMaxClasses = 20;
  int classes = 0;
  while (classes * classes < metric.matrix_size()) ++classes;
  if (classes == 0 || classes * classes != metric.matrix_size()) return "";
  if (classes > kMaxClasses) return absl::StrCat("of ", classes, " classes; -o json shows it whole\n");
  int width = 3;
  for (const double count : metric.matrix())
    width = std::max(width, static_cast<int>(absl::StrFormat("%.0f", count).size()));
  std::string text = absl::StrFormat("%5s", "");
  for (int j = 0; j < classes; ++j) absl::StrAppendFormat(&text, " %*d", width, j);
  for (int i = 0; i < classes; ++i) {
    absl::StrAppendFormat(&text, "\n%5d", i);
    for (int j = 0; j < classes; ++j) absl::StrAppendFormat(&text, " %*.0f", width, metric.matrix(i * classes + j));
  }
  return text + "\n";
}

std::string EpochLine(const v1::EpochCompleted& epoch) {
  std::string line =
      absl::StrFormat("epoch %d/%d  train loss %.4f", epoch.epoch(), epoch.total_epochs(), epoch.train_loss());
  if (epoch.has_train_accuracy()) absl::StrAppend(&line, absl::StrFormat("  acc %.4f", epoch.train_accuracy()));
  // What is known of held-out data too is shown of that alone.
  google::protobuf::RepeatedPtrField<v1::MetricValue> of_training;
  for (const v1::MetricValue& metric : epoch.train_metrics()) {
    const bool of_test = std::ranges::any_of(
        epoch.test_metrics(), [&](const v1::MetricValue& other) { return other.name() == metric.name(); });
    if (!of_test) *of_training.Add() = metric;
  }
  absl::StrAppend(&line, OtherMetrics(of_training));
  if (epoch.has_test_loss()) absl::StrAppend(&line, absl::StrFormat("  test loss %.4f", epoch.test_loss()));
  if (epoch.has_test_accuracy()) absl::StrAppend(&line, absl::StrFormat("  acc %.4f", epoch.test_accuracy()));
  if (epoch.has_test_r_squared()) absl::StrAppend(&line, absl::StrFormat("  R2 %.4f", epoch.test_r_squared()));
  return absl::StrCat(line, OtherMetrics(epoch.test_metrics()), absl::StrFormat("  %.2f s", epoch.epoch_seconds()));
}

namespace {

// A grid of dots, 2 x 4 a character.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns), rows_(rows), cells_(static_cast<size_t>(columns) * static_cast<size_t>(rows)) {}
  int width() const { return columns_ * 2; }
  int height() const { return rows_ * 4; }
  void Set(int x, int y) {
    // The bit of each dot of a braille character, by Unicode's numbering.
    static constexpr int kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cells_[Cell(y / 4, x / 2)] |= kBits[y % 4][x % 2];
  }
  std::string Row(int row, bool ascii) const {
    std::string text;
    for (int c = 0; c < columns_; ++c) {
      const int bits = cells_[Cell(row, c)];
      if (ascii || bits == 0) {
        text += bits == 0 ? ' ' : '*';
        continue;
      }
      const int code = 0x2800 + bits;
      text += static_cast<char>(0xE0 | code >> 12);
      text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      text += static_cast<char>(0x80 | (code & 0x3F));
    }
    return text;
  }

 private:
  size_t Cell(int row, int column) const {
    return static_cast<size_t>(row) * static_cast<size_t>(columns_) + static_cast<size_t>(column);
  }

  int columns_, rows_;
  std::vector<int> cells_;
};

// The mean of the points that fall into each of `bins` bins; empty bins take the value before them.
std::vector<double> Bin(const std::vector<std::pair<double, double>>& points, int bins) {
  const double first = points.front().first, span = std::max(points.back().first - first, 1e-9);
  std::vector<double> sums(static_cast<size_t>(bins)), counts(static_cast<size_t>(bins));
  for (const auto& [x, y] : points) {
    const auto bin = static_cast<size_t>(std::clamp((x - first) / span * bins, 0.0, bins - 1.0));
    sums[bin] += y;
    ++counts[bin];
  }
  double last = points.front().second;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (counts[i] > 0) last = sums[i] / counts[i];
    sums[i] = last;
  }
  return sums;
}

}  // namespace

std::string LossCurve(const std::vector<std::pair<double, double>>& points, int width, int height, bool ascii) {
  constexpr int kLabel = 9;
  if (points.size() < 2 || width < kLabel + 10 || height < 2) return "";
  Canvas canvas(width - kLabel, height);
  const std::vector<double> values = Bin(points, canvas.width());
  const double low = *std::ranges::min_element(values), high = *std::ranges::max_element(values);
  const double span = std::max(high - low, 1e-12);
  const auto place = [&](double v) {
    return std::clamp(static_cast<int>(std::lround((high - v) / span * (canvas.height() - 1))), 0, canvas.height() - 1);
  };
  for (int x = 0; x < canvas.width(); ++x) {
    const int y = place(values[static_cast<size_t>(x)]);
    const int before = x == 0 ? y : place(values[static_cast<size_t>(x - 1)]);
    for (int fill = std::min(y, before); fill <= std::max(y, before); ++fill) canvas.Set(x, fill);
  }
  std::string text = "loss\n";
  for (int row = 0; row < height; ++row) {
    const double label = row == 0 ? high : row == height - 1 ? low : (high + low) / 2;
    const bool labelled = row == 0 || row == height - 1 || row == height / 2;
    absl::StrAppend(&text, labelled ? absl::StrFormat("%7.4f ", label) : std::string(kLabel - 1, ' '),
                    ascii ? "|" : "│", canvas.Row(row, ascii), "\n");
  }
  std::string axis(kLabel - 1, ' ');
  absl::StrAppend(&axis, ascii ? "+" : "└");
  for (int i = 0; i < width - kLabel; ++i) absl::StrAppend(&axis, ascii ? "-" : "─");
  const std::string last = absl::StrFormat("step %.0f", points.back().first);
  absl::StrAppend(
      &text, axis, "\n", std::string(kLabel, ' '), "0",
      std::string(static_cast<size_t>(std::max(1, width - kLabel - 1 - static_cast<int>(last.size()))), ' '), last,
      "\n");
  return text;
}

}  // namespace lockstep::cli
