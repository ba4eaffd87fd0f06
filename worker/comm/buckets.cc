// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/buckets.h"

#include <algorithm>
#include <optional>

#include "worker/comm/aligned.h"

namespace lockstep {

namespace {

int64_t Alignment(int ranks) { return static_cast<int64_t>(kCacheLine / sizeof(float)) * ranks; }

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Of those that write into the range; 0: none does.
int FirstLayer(std::span<const GradientSpan> spans, const ElementRange& range) {
  std::optional<int> first;
  for (const GradientSpan& span : spans) {
    if (span.offset >= range.end() || span.offset + span.elements <= range.first) continue;
    first = std::min(first.value_or(span.layer), span.layer);
  }
  return first.value_or(0);
}

}  // namespace

int64_t PaddedElements(int64_t elements, int ranks) {
  return std::max(RoundUp(elements, Alignment(ranks)), Alignment(ranks));
}

std::vector<Bucket> PlanBuckets(std::span<const GradientSpan> spans, int64_t elements, const BucketOptions& options) {
  const int64_t align = Alignment(options.ranks);
  std::vector<Bucket> buckets;
  // The bucket that grows towards the front, [.., end), and the first layer of what is in it so far.
  int64_t end = PaddedElements(elements, options.ranks);
  std::optional<int> lowest;
  const auto cut = [&](int64_t at) {
    if (at < 0 || at >= end || !lowest.has_value()) return;
    buckets.push_back({{at, end - at}, 0});
    end = at;
    lowest.reset();
  };
  for (size_t i = spans.size(); i-- > 0;) {
    const GradientSpan& span = spans[i];
    // What lies behind is written later in backward, as moving statistics are: it waits alone, with the few elements
    // before the boundary.
    if (lowest.has_value() && span.layer > *lowest) cut((span.offset + span.elements) / align * align);
    if (span.offset >= end) continue;
    lowest = std::min(lowest.value_or(span.layer), span.layer);
    // The few elements before the boundary go with the parameter before: nothing waits for them.
    const int64_t start = RoundUp(span.offset, align);
    if (end - start < (buckets.empty() ? options.first_elements : options.elements)) continue;
    cut(start);
    if (start != span.offset) lowest = span.layer;
  }
  if (end > 0) buckets.push_back({{0, end}, 0});
  for (Bucket& bucket : buckets) bucket.layer = FirstLayer(spans, bucket.range);
  std::ranges::stable_sort(buckets, [](const Bucket& a, const Bucket& b) { return a.layer > b.layer; });
  return buckets;
}

}  // namespace lockstep
