// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_conv.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <utility>

#include "oneapi/dnnl/dnnl.hpp"

namespace lockstep::cpu {

namespace {

using dnnl::memory;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::dims Dims(const Shape& shape) { return memory::dims(shape.dims().begin(), shape.dims().end()); }
memory::dims Pair(const std::array<int64_t, 2>& pair) { return {pair[0], pair[1]}; }

// [groups, filters / groups, channels / groups, h, w] for oneDNN where there are groups.
memory::desc KernelDesc(const WindowArgs& args, const Shape& kernel, bool any) {
  const auto tag = [&](memory::format_tag plain) { return any ? memory::format_tag::any : plain; };
  if (args.groups == 1) return {Dims(kernel), memory::data_type::f32, tag(memory::format_tag::oihw)};
  return {{args.groups, kernel[0] / args.groups, kernel[1], kernel[2], kernel[3]},
          memory::data_type::f32,
          tag(memory::format_tag::goihw)};
}

memory::desc ImageDesc(const Shape& shape, bool any) {
  return {Dims(shape), memory::data_type::f32, any ? memory::format_tag::any : memory::format_tag::nchw};
}

// Calls visit(index in x, index in kernel, index in y) for every product of the convolution, outputs in
// order and the places of the window in order.
template <typename Visit>
void ForProducts(const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y, Visit visit) {
  const int64_t channels = kernel[1], filters = y[1] / args.groups;
  for (int64_t n = 0; n < y[0]; ++n) {
    for (int64_t f = 0; f < y[1]; ++f) {
      for (int64_t i = 0; i < y[2]; ++i) {
        for (int64_t j = 0; j < y[3]; ++j) {
          const int64_t out = ((n * y[1] + f) * y[2] + i) * y[3] + j;
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t channel = f / filters * channels + c;
            for (int64_t p = 0; p < kernel[2]; ++p) {
              const int64_t row = i * args.stride[0] - args.pad_begin[0] + p * args.dilation[0];
              if (row < 0 || row >= x[2]) continue;
              for (int64_t q = 0; q < kernel[3]; ++q) {
                const int64_t column = j * args.stride[1] - args.pad_begin[1] + q * args.dilation[1];
                if (column < 0 || column >= x[3]) continue;
                visit(((n * x[1] + channel) * x[2] + row) * x[3] + column,
                      ((f * channels + c) * kernel[2] + p) * kernel[3] + q, out);
              }
            }
          }
        }
      }
    }
  }
}

// y's plane of a filter begins at (n * filters + f) * places.
template <typename Visit>
void ForFilters(const Shape& y, Visit visit) {
  const int64_t places = y[2] * y[3];
  for (int64_t n = 0; n < y[0]; ++n) {
    for (int64_t f = 0; f < y[1]; ++f) visit(f, (n * y[1] + f) * places, places);
  }
}

}  // namespace

// One primitive with the layouts it likes, and the copies into and out of them.
class CpuConv::Plan {
 public:
  Plan(Pass pass, const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y, bool bias)
      : stream_(Engine()),
        x_(ImageDesc(x, false)),
        kernel_(KernelDesc(args, kernel, false)),
        y_(ImageDesc(y, false)),
        bias_({kernel[0]}, memory::data_type::f32, memory::format_tag::x) {
    const memory::desc x_any = ImageDesc(x, true), kernel_any = KernelDesc(args, kernel, true);
    const memory::desc y_any = ImageDesc(y, true);
    const memory::dims strides = Pair(args.stride), begin = Pair(args.pad_begin), end = Pair(args.pad_end);
    const memory::dims dilation{args.dilation[0] - 1, args.dilation[1] - 1};
    const auto direct = dnnl::algorithm::convolution_direct;
    const auto training = dnnl::prop_kind::forward_training;
    using Forward = dnnl::convolution_forward;
    const Forward::primitive_desc forward(
        bias ? Forward::desc(training, direct, x_any, kernel_any, bias_, y_any, strides, dilation, begin, end)
             : Forward::desc(training, direct, x_any, kernel_any, y_any, strides, dilation, begin, end),
        Engine());
    if (pass == Pass::kForward) {
      Use(dnnl::convolution_forward(forward), {x_, forward.src_desc()}, {kernel_, forward.weights_desc()},
          {y_, forward.dst_desc()});
    } else if (pass == Pass::kInput) {
      using Backward = dnnl::convolution_backward_data;
      const Backward::primitive_desc backward(
          Backward::desc(direct, x_any, kernel_any, y_any, strides, dilation, begin, end), Engine(), forward);
      Use(Backward(backward), {y_, backward.diff_dst_desc()}, {kernel_, backward.weights_desc()},
          {x_, backward.diff_src_desc()});
    } else {
      using Backward = dnnl::convolution_backward_weights;
      const Backward::primitive_desc backward(
          bias ? Backward::desc(direct, x_any, kernel_any, bias_, y_any, strides, dilation, begin, end)
               : Backward::desc(direct, x_any, kernel_any, y_any, strides, dilation, begin, end),
          Engine(), forward);
      Use(Backward(backward), {x_, backward.src_desc()}, {y_, backward.diff_dst_desc()},
          {kernel_, backward.diff_weights_desc()});
    }
    args_ = ArgumentsOf(pass);
  }

  // first, second: inputs; out: output; bias: null where there is none.
  void Run(const float* first, const float* second, float* bias, float* out) {
    first_.In(stream_, first);
    second_.In(stream_, second);
    out_.Point(out);
    arguments_[args_[0]] = first_.inner;
    arguments_[args_[1]] = second_.inner;
    arguments_[args_[2]] = out_.inner;
    if (bias != nullptr) {
      bias_memory_.set_data_handle(bias);
      arguments_[args_[3]] = bias_memory_;
    }
    primitive_.execute(stream_, arguments_);
    out_.Out(stream_);
    stream_.wait();
  }

 private:
  // A tensor of the caller's and the same in the primitive's layout.
  struct Port {
    memory outer;
    memory inner;
    dnnl::reorder copy;
    bool same = true;

    static Port Make(const std::pair<memory::desc, memory::desc>& descs, bool is_input) {
      Port port;
      port.outer = memory(descs.first, Engine(), nullptr);
      port.same = descs.first == descs.second;
      port.inner = port.same ? port.outer : memory(descs.second, Engine());
      if (!port.same) {
        port.copy = is_input ? dnnl::reorder(port.outer, port.inner) : dnnl::reorder(port.inner, port.outer);
      }
      return port;
    }
    void In(dnnl::stream& stream, const float* data) {
      outer.set_data_handle(const_cast<float*>(data));
      if (!same) copy.execute(stream, outer, inner);
    }
    void Point(float* data) { outer.set_data_handle(data); }
    void Out(dnnl::stream& stream) {
      if (!same) copy.execute(stream, inner, outer);
    }
  };

  template <typename Primitive>
  void Use(Primitive primitive, const std::pair<memory::desc, memory::desc>& first,
           const std::pair<memory::desc, memory::desc>& second, const std::pair<memory::desc, memory::desc>& out) {
    primitive_ = std::move(primitive);
    first_ = Port::Make(first, true);
    second_ = Port::Make(second, true);
    out_ = Port::Make(out, false);
    bias_memory_ = memory(bias_, Engine(), nullptr);
  }

  // First, second, output, bias.
  static std::array<int, 4> ArgumentsOf(Pass pass) {
    switch (pass) {
      case Pass::kForward:
        return {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
      case Pass::kInput:
        return {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0};
      case Pass::kKernel:
        break;
    }
    return {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS};
  }

  dnnl::stream stream_;
  memory::desc x_, kernel_, y_, bias_;
  dnnl::primitive primitive_;
  Port first_, second_, out_;
  memory bias_memory_;
  std::array<int, 4> args_{};
  std::unordered_map<int, memory> arguments_;
};

CpuConv::CpuConv(int threads) : threads_(threads) {}
CpuConv::~CpuConv() = default;

CpuConv::Plan& CpuConv::Find(Pass pass, const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y,
                             bool bias) {
  // The count is the calling thread's own setting; another device of this thread may have changed it.
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
  key_.clear();
  key_.insert(key_.end(), {static_cast<int64_t>(pass), bias ? 1 : 0, args.groups});
  for (const Shape* shape : {&x, &kernel, &y}) key_.insert(key_.end(), shape->dims().begin(), shape->dims().end());
  for (const auto* pair : {&args.stride, &args.dilation, &args.pad_begin, &args.pad_end}) {
    key_.insert(key_.end(), pair->begin(), pair->end());
  }
  const auto found = plans_.find(key_);
  if (found != plans_.end()) return *found->second;
  return *plans_.emplace(key_, std::make_unique<Plan>(pass, args, x, kernel, y, bias)).first->second;
}

void CpuConv::Forward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, Tensor y) {
  if (x.type == DType::kF32) {
    Plan& plan = Find(Pass::kForward, args, x.shape, kernel.shape, y.shape, bias.data != nullptr);
    return plan.Run(x.as<float>(), kernel.as<float>(), bias.as<float>(), y.as<float>());
  }
  double* out = y.as<double>();
  ForFilters(y.shape, [&](int64_t f, int64_t at, int64_t places) {
    std::fill_n(out + at, places, bias.data == nullptr ? 0.0 : bias.as<double>()[f]);
  });
  ForProducts(args, x.shape, kernel.shape, y.shape,
              [&](int64_t a, int64_t b, int64_t c) { out[c] += x.as<double>()[a] * kernel.as<double>()[b]; });
}

void CpuConv::BackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, Tensor dx) {
  if (dx.type == DType::kF32) {
    Plan& plan = Find(Pass::kInput, args, dx.shape, kernel.shape, dy.shape, false);
    return plan.Run(dy.as<float>(), kernel.as<float>(), nullptr, dx.as<float>());
  }
  std::fill_n(dx.as<double>(), dx.elements(), 0.0);
  ForProducts(args, dx.shape, kernel.shape, dy.shape, [&](int64_t a, int64_t b, int64_t c) {
    dx.as<double>()[a] += dy.as<double>()[c] * kernel.as<double>()[b];
  });
}

void CpuConv::BackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) {
  if (x.type == DType::kF32) {
    Plan& plan = Find(Pass::kKernel, args, x.shape, dkernel.shape, dy.shape, dbias.data != nullptr);
    return plan.Run(x.as<float>(), dy.as<float>(), dbias.as<float>(), dkernel.as<float>());
  }
  std::fill_n(dkernel.as<double>(), dkernel.elements(), 0.0);
  ForProducts(args, x.shape, dkernel.shape, dy.shape, [&](int64_t a, int64_t b, int64_t c) {
    dkernel.as<double>()[b] += dy.as<double>()[c] * x.as<double>()[a];
  });
  if (dbias.data == nullptr) return;
  std::fill_n(dbias.as<double>(), dbias.elements(), 0.0);
  ForFilters(dy.shape, [&](int64_t f, int64_t at, int64_t places) {
    for (int64_t i = 0; i < places; ++i) dbias.as<double>()[f] += dy.as<double>()[at + i];
  });
}

}  // namespace lockstep::cpu
