// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <string>

#include "common/rng.h"
#include "gtest/gtest.h"

namespace lockstep::conformance {

namespace {

struct Job {
  const LayerPlan& plan;
  const ReferenceCall& call;
  const std::vector<Vars>& parameters;
  const std::vector<Vars>& x;
};

// By the last part of its name; null where the layer has none.
const Vars* Parameter(const Job& job, const std::string& name) {
  for (size_t i = 0; i < job.plan.parameters.size(); ++i) {
    const std::string& full = job.plan.parameters[i].name;
    if (full == name || full.ends_with("/" + name)) return &job.parameters[i];
  }
  return nullptr;
}

Vars Each(const Job& job, const std::function<Var(const Var&)>& f) {
  Vars y;
  for (const Var& v : job.x[0]) y.push_back(f(v));
  return y;
}

Vars Dense(const Job& job) {
  const int64_t in = job.plan.input[0], out = job.plan.output[0];
  const Vars &w = *Parameter(job, "kernel"), *b = Parameter(job, "bias");
  Vars y;
  for (int64_t i = 0; i < job.call.rows; ++i) {
    for (int64_t j = 0; j < out; ++j) {
      Var sum = b == nullptr ? Var(0) : (*b)[j];
      for (int64_t k = 0; k < in; ++k) sum = sum + job.x[0][i * in + k] * w[k * out + j];
      y.push_back(sum);
    }
  }
  return y;
}

// A window over an image, from the layer's attributes.
struct Window {
  std::array<int64_t, 2> size, stride, dilation{1, 1}, before{0, 0};
};

template <typename Numbers>
std::array<int64_t, 2> Both(const Numbers& given, std::array<int64_t, 2> otherwise) {
  if (given.empty()) return otherwise;
  return {given[0], given[given.size() - 1]};
}

// Zeros before the image: for SAME, half of what ceil(input / stride) places need.
template <typename Layer>
void Pad(const Layer& layer, const Shape& image, Window& window) {
  for (int axis = 0; axis < 2; ++axis) {
    if (layer.padding() == v1::PADDING_EXPLICIT) window.before[axis] = layer.explicit_padding(2 * axis);
    if (layer.padding() != v1::PADDING_SAME) continue;
    const double places = std::ceil(static_cast<double>(image[axis + 1]) / static_cast<double>(window.stride[axis]));
    const int64_t extent = window.dilation[axis] * (window.size[axis] - 1) + 1;
    const int64_t needed = (static_cast<int64_t>(places) - 1) * window.stride[axis] + extent;
    window.before[axis] = std::max<int64_t>(needed - image[axis + 1], 0) / 2;
  }
}

// visit(output's index, inside the image: input's index, else -1, place in the window).
void OverWindows(const Job& job, const Window& w, int64_t channel_in, int64_t channel_out,
                 const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  const Shape &in = job.plan.input, &out = job.plan.output;
  const int64_t height = out.rank() == 3 ? out[1] : 1, width = out.rank() == 3 ? out[2] : 1;
  for (int64_t n = 0; n < job.call.rows; ++n) {
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < width; ++j) {
        for (int64_t p = 0; p < w.size[0]; ++p) {
          for (int64_t q = 0; q < w.size[1]; ++q) {
            const int64_t r = i * w.stride[0] + p * w.dilation[0] - w.before[0];
            const int64_t c = j * w.stride[1] + q * w.dilation[1] - w.before[1];
            const bool inside = r >= 0 && r < in[1] && c >= 0 && c < in[2];
            visit(((n * out[0] + channel_out) * height + i) * width + j,
                  inside ? ((n * in[0] + channel_in) * in[1] + r) * in[2] + c : -1, p * w.size[1] + q);
          }
        }
      }
    }
  }
}

template <typename Layer>
Vars Convolve(const Job& job, const Layer& layer, int64_t groups) {
  Window window{.size = Both(layer.kernel_size(), {}),
                .stride = Both(layer.strides(), {1, 1}),
                .dilation = Both(layer.dilation_rate(), {1, 1})};
  Pad(layer, job.plan.input, window);
  const Vars &kernel = *Parameter(job, "kernel"), *bias = Parameter(job, "bias");
  const int64_t filters = job.plan.output[0], group_in = job.plan.input[0] / groups, group_out = filters / groups;
  const int64_t places = window.size[0] * window.size[1];
  Vars y(static_cast<size_t>(job.call.rows * job.plan.output.elements()));
  for (int64_t f = 0; f < filters; ++f) {
    for (int64_t c = 0; c < group_in; ++c) {
      OverWindows(job, window, f / group_out * group_in + c, f, [&](int64_t out, int64_t in, int64_t place) {
        if (in >= 0) y[out] = y[out] + job.x[0][in] * kernel[(f * group_in + c) * places + place];
      });
    }
  }
  const int64_t plane = job.plan.output.elements() / filters;
  for (size_t i = 0; bias != nullptr && i < y.size(); ++i) {
    y[i] = y[i] + (*bias)[static_cast<int64_t>(i) / plane % filters];
  }
  return y;
}

Vars Pool(const Job& job, const Window& window, bool largest) {
  const size_t count = static_cast<size_t>(job.call.rows * job.plan.output.elements());
  Vars y(count);
  std::vector<int64_t> inside(count, 0);
  for (int64_t c = 0; c < job.plan.input[0]; ++c) {
    OverWindows(job, window, c, c, [&](int64_t out, int64_t in, int64_t) {
      if (in < 0) return;
      const Var& v = job.x[0][in];
      if (!largest) y[out] = y[out] + v;
      if (largest && (inside[out] == 0 || v.value > y[out].value)) y[out] = v;
      ++inside[out];
    });
  }
  for (size_t i = 0; !largest && i < count; ++i) y[i] = y[i] / static_cast<double>(inside[i]);
  return y;
}

template <typename Layer>
Vars PoolOf(const Job& job, const Layer& layer, bool largest) {
  Window window{.size = Both(layer.pool_size(), {2, 2}), .stride = {}};
  window.stride = Both(layer.strides(), window.size);
  Pad(layer, job.plan.input, window);
  return Pool(job, window, largest);
}

Vars GlobalPool(const Job& job, bool largest) {
  return Pool(job, {.size = {job.plan.input[1], job.plan.input[2]}, .stride = {1, 1}}, largest);
}

// Normalises each set of indices with its own statistics, or with those given; `feature` is the place in
// gamma and beta.
struct Statistics {
  Var mean, variance;
};
template <typename Layer>
Vars Normalise(const Job& job, const Layer& layer, const std::vector<std::vector<int64_t>>& sets,
               const std::function<int64_t(int64_t)>& feature, const std::vector<Statistics>& given = {}) {
  const double epsilon = layer.has_epsilon() ? layer.epsilon() : 0.001;
  const Vars *gamma = Parameter(job, "gamma"), *beta = Parameter(job, "beta");
  EXPECT_EQ(gamma != nullptr, !layer.has_scale() || layer.scale());
  EXPECT_EQ(beta != nullptr, !layer.has_center() || layer.center());
  Vars y(job.x[0].size());
  for (size_t s = 0; s < sets.size(); ++s) {
    Statistics own;
    const double n = static_cast<double>(sets[s].size());
    for (const int64_t i : sets[s]) own.mean = own.mean + job.x[0][i] / n;
    for (const int64_t i : sets[s]) {
      const Var distance = job.x[0][i] - own.mean;
      own.variance = own.variance + distance * distance / n;
    }
    if (!given.empty()) own = given[s];
    const Var deviation = Sqrt(own.variance + epsilon);
    for (const int64_t i : sets[s]) {
      y[i] = (job.x[0][i] - own.mean) / deviation;
      if (gamma != nullptr) y[i] = y[i] * (*gamma)[feature(i)];
      if (beta != nullptr) y[i] = y[i] + (*beta)[feature(i)];
    }
  }
  return y;
}

Vars BatchNormalization(const Job& job) {
  const int64_t channels = job.plan.input[0], places = job.plan.input.elements() / channels;
  std::vector<std::vector<int64_t>> sets(channels);
  const auto channel = [=](int64_t i) { return i / places % channels; };
  for (size_t i = 0; i < job.x[0].size(); ++i)
    sets[channel(static_cast<int64_t>(i))].push_back(static_cast<int64_t>(i));
  std::vector<Statistics> moving;
  const bool frozen = job.plan.spec.has_trainable() && !job.plan.spec.trainable();
  for (int64_t c = 0; (frozen || !job.call.training) && c < channels; ++c) {
    moving.push_back({(*Parameter(job, "moving_mean"))[c], (*Parameter(job, "moving_variance"))[c]});
  }
  return Normalise(job, job.plan.spec.batch_normalization(), sets, channel, moving);
}

// Neighbouring stretches of `length`.
std::vector<std::vector<int64_t>> Stretches(size_t count, int64_t length) {
  std::vector<std::vector<int64_t>> sets;
  for (size_t i = 0; i < count; ++i) {
    if (static_cast<int64_t>(i) % length == 0) sets.emplace_back();
    sets.back().push_back(static_cast<int64_t>(i));
  }
  return sets;
}

Vars LayerNormalization(const Job& job) {
  const v1::LayerNormalizationLayer& layer = job.plan.spec.layer_normalization();
  const int64_t given = layer.has_axis() ? layer.axis() : -1;
  int64_t length = 1;
  for (int64_t axis = given < 0 ? given + job.plan.input.rank() : given; axis < job.plan.input.rank(); ++axis) {
    length *= job.plan.input[static_cast<int>(axis)];
  }
  return Normalise(job, layer, Stretches(job.x[0].size(), length), [=](int64_t i) { return i % length; });
}

Vars GroupNormalization(const Job& job) {
  const v1::GroupNormalizationLayer& layer = job.plan.spec.group_normalization();
  const int64_t channels = job.plan.input[0], places = job.plan.input.elements() / channels;
  const int64_t groups = layer.has_groups() ? layer.groups() : 32;
  return Normalise(job, layer, Stretches(job.x[0].size(), channels / groups * places),
                   [=](int64_t i) { return i / places % channels; });
}

Vars Dropout(const Job& job) {
  const double rate = job.plan.spec.dropout().rate();
  if (!job.call.training) return job.x[0];
  const RngStream stream{job.call.seed, RngPurpose::kDropout,
                         static_cast<uint64_t>(job.call.step) * 65536 + static_cast<uint64_t>(job.call.layer_index)};
  Vars y;
  for (size_t i = 0; i < job.x[0].size(); ++i) {
    const uint64_t place = static_cast<uint64_t>(job.call.first_row * job.plan.input.elements()) + i;
    const bool kept = static_cast<double>(stream.Word(place)) >= std::floor(rate * 4294967296.0);
    y.push_back(kept ? job.x[0][i] * (1 / (1 - rate)) : Var(0));
  }
  return y;
}

Vars AddUp(const Job& job) {
  Vars y = job.x[0];
  for (size_t k = 1; k < job.x.size(); ++k) {
    for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] + job.x[k][i];
  }
  return y;
}

Vars Concatenate(const Job& job) {
  const int64_t given = job.plan.spec.concatenate().axis();
  const int axis = static_cast<int>(given < 0 ? given + job.plan.input.rank() : given);
  int64_t before = job.call.rows, behind = 1;
  for (int a = 0; a < axis; ++a) before *= job.plan.input[a];
  for (int a = axis + 1; a < job.plan.input.rank(); ++a) behind *= job.plan.input[a];
  Vars y;
  for (int64_t i = 0; i < before; ++i) {
    for (size_t k = 0; k < job.x.size(); ++k) {
      const int64_t block = job.plan.inputs[k][axis] * behind;
      for (int64_t j = 0; j < block; ++j) y.push_back(job.x[k][i * block + j]);
    }
  }
  return y;
}

Vars Softmax(const Job& job, bool logarithm) {
  const int64_t n = job.plan.input[job.plan.input.rank() - 1];
  Vars y;
  for (size_t i = 0; i < job.x[0].size(); i += static_cast<size_t>(n)) {
    double largest = job.x[0][i].value;
    for (int64_t j = 0; j < n; ++j) largest = std::max(largest, job.x[0][i + j].value);
    Var sum;
    for (int64_t j = 0; j < n; ++j) sum = sum + Exp(job.x[0][i + j] - largest);
    for (int64_t j = 0; j < n; ++j) {
      const Var x = job.x[0][i + j] - largest;
      y.push_back(logarithm ? x - Log(sum) : Exp(x) / sum);
    }
  }
  return y;
}

Var Elu(const Var& x, double alpha, double scale) { return x.value > 0 ? scale * x : scale * alpha * (Exp(x) - 1); }

// Of two that are equal up to rounding, the one that does not overflow.
Var Sigmoid(const Var& x) { return x.value < 0 ? Exp(x) / (Exp(x) + 1) : 1 / (Exp(0 - x) + 1); }

Var Gelu(const Var& x, bool approximate) {
  if (!approximate) return 0.5 * x * (1 + Erf(x / std::sqrt(2.0)));
  return x / 2 * (1 + Tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

Var HardSigmoid(const Var& x) {
  const Var y = x / 6 + 0.5;
  return y.value < 0 ? Var(0) : y.value > 1 ? Var(1) : y;
}

using Function = std::function<Vars(const Job&)>;

const std::map<std::string, Function>& Functions() {
  static const std::map<std::string, Function> functions{
      {"dense", Dense},
      {"conv2d",
       [](const Job& j) {
         const v1::Conv2dLayer& layer = j.plan.spec.conv2d();
         return Convolve(j, layer, std::max<int64_t>(layer.groups(), 1));
       }},
      {"depthwise_conv2d", [](const Job& j) { return Convolve(j, j.plan.spec.depthwise_conv2d(), j.plan.input[0]); }},
      {"max_pooling2d", [](const Job& j) { return PoolOf(j, j.plan.spec.max_pooling2d(), true); }},
      {"average_pooling2d", [](const Job& j) { return PoolOf(j, j.plan.spec.average_pooling2d(), false); }},
      {"global_max_pooling2d", [](const Job& j) { return GlobalPool(j, true); }},
      {"global_average_pooling2d", [](const Job& j) { return GlobalPool(j, false); }},
      {"batch_normalization", BatchNormalization},
      {"layer_normalization", LayerNormalization},
      {"group_normalization", GroupNormalization},
      {"dropout", Dropout},
      {"flatten", [](const Job& j) { return j.x[0]; }},
      {"reshape", [](const Job& j) { return j.x[0]; }},
      {"add", AddUp},
      {"concatenate", Concatenate},
      {"linear", [](const Job& j) { return j.x[0]; }},
      {"relu", [](const Job& j) { return Each(j, [](const Var& x) { return x.value > 0 ? x : Var(0); }); }},
      {"leaky_relu",
       [](const Job& j) {
         const v1::LeakyReluLayer& layer = j.plan.spec.leaky_relu();
         const double slope = layer.has_negative_slope() ? layer.negative_slope() : 0.3;
         return Each(j, [=](const Var& x) { return x.value >= 0 ? x : slope * x; });
       }},
      {"elu",
       [](const Job& j) {
         const double alpha = j.plan.spec.elu().has_alpha() ? j.plan.spec.elu().alpha() : 1;
         return Each(j, [=](const Var& x) { return Elu(x, alpha, 1); });
       }},
      {"selu",
       [](const Job& j) {
         return Each(j, [](const Var& x) { return Elu(x, 1.6732632423543772, 1.0507009873554805); });
       }},
      {"gelu",
       [](const Job& j) { return Each(j, [&](const Var& x) { return Gelu(x, j.plan.spec.gelu().approximate()); }); }},
      {"silu", [](const Job& j) { return Each(j, [](const Var& x) { return x * Sigmoid(x); }); }},
      {"sigmoid", [](const Job& j) { return Each(j, Sigmoid); }},
      {"hard_sigmoid", [](const Job& j) { return Each(j, HardSigmoid); }},
      {"tanh", [](const Job& j) { return Each(j, Tanh); }},
      {"softplus", [](const Job& j) { return Each(j, [](const Var& x) { return Log(1 + Exp(x)); }); }},
      {"softmax", [](const Job& j) { return Softmax(j, false); }},
      {"log_softmax", [](const Job& j) { return Softmax(j, true); }},
  };
  return functions;
}

}  // namespace

Vars ReferenceLayer(const LayerPlan& plan, const ReferenceCall& call, const std::vector<Vars>& parameters,
                    const std::vector<Vars>& x) {
  const auto found = Functions().find(plan.kind);
  if (found == Functions().end()) {
    ADD_FAILURE() << "no reference for " << plan.kind;
    return Vars(static_cast<size_t>(call.rows * plan.output.elements()));
  }
  return found->second({plan, call, parameters, x});
}

Vars ReferenceModel(const ModelPlan& plan, ReferenceCall call, const std::vector<Vars>& parameters,
                    const Vars& samples) {
  std::vector<Vars> outputs;
  auto next = parameters.begin();
  for (const LayerPlan& layer : plan.layers) {
    std::vector<Vars> x;
    for (const int source : layer.sources) x.push_back(source == kModelInput ? samples : outputs[source]);
    const auto end = next + static_cast<int64_t>(layer.parameters.size());
    call.layer_index = static_cast<int>(outputs.size());
    outputs.push_back(ReferenceLayer(layer, call, {next, end}, x));
    next = end;
  }
  return outputs.back();
}

}  // namespace lockstep::conformance
