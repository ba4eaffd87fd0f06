// SPDX-License-Identifier: Apache-2.0
// What convolutions and pooling have in common: a window that moves over an image.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "common/model/model_plan.h"
#include "google/protobuf/repeated_field.h"

namespace lockstep {

// Of a window on an image [height, width]; index 0 is the height.
struct WindowPlan {
  std::array<int64_t, 2> size{1, 1};
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 2> dilation{1, 1};
  // Rows and columns before and behind the image.
  std::array<int64_t, 2> pad_begin{0, 0};
  std::array<int64_t, 2> pad_end{0, 0};
  // Places the window has.
  std::array<int64_t, 2> output{0, 0};
};

// As the job file gives it.
struct WindowSpec {
  // The field of the layer's kind, for messages: "model.layers[2].conv2d".
  std::string field;
  // "kernel_size" or "pool_size".
  const char* size_name;
  const google::protobuf::RepeatedField<int64_t>& size;
  const google::protobuf::RepeatedField<int64_t>& strides;
  lockstep::v1::Padding padding;
  const google::protobuf::RepeatedField<int64_t>& explicit_padding;
  // Null: 1.
  const google::protobuf::RepeatedField<int64_t>* dilation_rate;
  // Used where `size` is empty; 0: the size must be given.
  int64_t default_size = 0;
  // The stride where none is given: the size, else 1.
  bool stride_is_size = false;
  // Padding must be smaller than the window, so that no window lies in it alone.
  bool bounded_padding = false;
};

// `image`: [channels, height, width]. Adds what is wrong; the plan is then not to be used.
WindowPlan PlanWindow(const WindowSpec& spec, const Shape& image, Violations& violations);

// False, with a violation, where the layer's input is not [channels, height, width].
bool CheckImage(const LayerPlan& plan, Violations& violations);

// The windows of the layers that have one; the plan was described without violations.
WindowPlan WindowOf(const LayerPlan& plan);

}  // namespace lockstep
