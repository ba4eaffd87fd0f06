// SPDX-License-Identifier: Apache-2.0
#include "common/model/layers/window.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lockstep {

namespace {

constexpr int64_t kLargest = 1 << 20;

// One number for both axes, or two.
std::array<int64_t, 2> Pair(const google::protobuf::RepeatedField<int64_t>& given, std::array<int64_t, 2> otherwise,
                            const std::string& field, Violations& violations) {
  if (given.empty()) return otherwise;
  if (given.size() > 2) {
    violations.Add(field, absl::StrCat("has ", given.size(), " numbers; give one, or height and width"));
    return otherwise;
  }
  const std::array<int64_t, 2> pair{given[0], given[given.size() - 1]};
  for (const int64_t v : pair) {
    if (v >= 1 && v <= kLargest) continue;
    violations.Add(field, absl::StrCat("is ", v, "; must be at least 1 and at most ", kLargest));
    return otherwise;
  }
  return pair;
}

void PadExplicitly(const WindowSpec& spec, WindowPlan& window, Violations& violations) {
  const std::string field = spec.field + ".explicit_padding";
  if (spec.explicit_padding.size() != 4) {
    violations.Add(
        field, absl::StrCat("has ", spec.explicit_padding.size(), " numbers; give four: top, bottom, left and right"));
    return;
  }
  for (int axis = 0; axis < 2; ++axis) {
    window.pad_begin[axis] = spec.explicit_padding[2 * axis];
    window.pad_end[axis] = spec.explicit_padding[2 * axis + 1];
    const int64_t limit = spec.bounded_padding ? window.size[axis] - 1 : kLargest;
    for (const int64_t pad : {window.pad_begin[axis], window.pad_end[axis]}) {
      if (pad >= 0 && pad <= limit) continue;
      violations.Add(field, absl::StrCat("is ", pad, "; must be at least 0 and at most ", limit));
      return;
    }
  }
}

}  // namespace

WindowPlan PlanWindow(const WindowSpec& spec, const Shape& image, Violations& violations) {
  const size_t before = violations.count();
  WindowPlan window;
  const std::string size_field = absl::StrCat(spec.field, ".", spec.size_name);
  if (spec.size.empty() && spec.default_size == 0) {
    violations.Add(size_field, "is missing; give one number, or height and width");
    return window;
  }
  window.size = Pair(spec.size, {spec.default_size, spec.default_size}, size_field, violations);
  const std::array<int64_t, 2> one{1, 1};
  window.stride = Pair(spec.strides, spec.stride_is_size ? window.size : one, spec.field + ".strides", violations);
  if (spec.dilation_rate != nullptr) {
    window.dilation = Pair(*spec.dilation_rate, one, spec.field + ".dilation_rate", violations);
  }
  if (!v1::Padding_IsValid(spec.padding)) violations.Add(spec.field + ".padding", "must be VALID, SAME or EXPLICIT");
  if (spec.padding == v1::PADDING_EXPLICIT) {
    PadExplicitly(spec, window, violations);
  } else if (!spec.explicit_padding.empty()) {
    violations.Add(spec.field + ".explicit_padding", "has an effect only with padding: EXPLICIT");
  }
  if (violations.count() != before) return window;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t length = image[axis + 1];
    const int64_t extent = (window.size[axis] - 1) * window.dilation[axis] + 1;
    if (spec.padding == v1::PADDING_SAME) {
      const int64_t places = (length + window.stride[axis] - 1) / window.stride[axis];
      const int64_t pad = std::max<int64_t>(0, (places - 1) * window.stride[axis] + extent - length);
      window.pad_begin[axis] = pad / 2;
      window.pad_end[axis] = pad - pad / 2;
    }
    const int64_t padded = length + window.pad_begin[axis] + window.pad_end[axis];
    if (extent > padded) {
      violations.Add(size_field, absl::StrCat("spans ", extent, " pixels, but the input ", image.ToString(), " has ",
                                              padded, axis == 0 ? " rows" : " columns",
                                              " with its padding; lower it or set padding: SAME"));
      return window;
    }
    window.output[axis] = (padded - extent) / window.stride[axis] + 1;
  }
  return window;
}

bool CheckImage(const LayerPlan& plan, Violations& violations) {
  if (plan.input.rank() == 3) return true;
  violations.Add(plan.field, absl::StrCat(plan.kind, " takes [channels, height, width], but its input has the shape ",
                                          plan.input.ToString(), "; put a reshape layer before it"));
  return false;
}

}  // namespace lockstep
