// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_matmul.h"

#include <omp.h>

#include <iterator>

#include "oneapi/dnnl/dnnl.hpp"

namespace lockstep::cpu {

namespace {

using dnnl::memory;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc Matrix(int64_t rows, int64_t columns, memory::data_type type, bool transposed) {
  return {{rows, columns}, type, transposed ? memory::format_tag::ba : memory::format_tag::ab};
}

bool HasMatrixUnits() {
  const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

}  // namespace

class CpuMatmul::Plan {
 public:
  explicit Plan(const Key& key) : stream_(Engine()) {
    const auto type = memory::data_type::bf16;
    const dnnl::matmul::primitive_desc description(
        dnnl::matmul::desc(Matrix(key.m, key.k, type, key.transpose_a), Matrix(key.k, key.n, type, key.transpose_b),
                           Matrix(key.m, key.n, memory::data_type::f32, false)),
        Engine());
    primitive_ = dnnl::matmul(description);
    a_ = memory(description.src_desc(), Engine(), nullptr);
    b_ = memory(description.weights_desc(), Engine(), nullptr);
    out_ = memory(description.dst_desc(), Engine(), nullptr);
  }

  void Run(uint16_t* a, uint16_t* b, float* out) {
    a_.set_data_handle(a);
    b_.set_data_handle(b);
    out_.set_data_handle(out);
    // The call of the C interface: the other one takes memory.
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, a_.get()}, {DNNL_ARG_WEIGHTS, b_.get()}, {DNNL_ARG_DST, out_.get()}};
    dnnl_primitive_execute(primitive_.get(), stream_.get(), std::size(arguments), arguments);
    stream_.wait();
  }

 private:
  dnnl::stream stream_;
  dnnl::matmul primitive_;
  memory a_, b_, out_;
};

CpuMatmul::CpuMatmul(const KernelChoice& kernels, int threads)
    : kernels_(kernels), threads_(threads), has_matrix_units_(kernels.large_f32 != nullptr && HasMatrixUnits()) {}
CpuMatmul::~CpuMatmul() = default;

void CpuMatmul::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor out) {
  // The count is the calling thread's own setting; another device of this thread may have changed it.
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
  const auto rounded = [&](const Tensor& x, std::vector<uint16_t>& to) {
    const auto n = static_cast<size_t>(x.elements());
    if (to.size() < n) to.resize(n);
    kernels_.f32->to_bf16(x.as<float>(), x.elements(), to.data());
    return to.data();
  };
  const Key key{args.transpose_a, args.transpose_b, out.shape[0], out.shape[1], a.shape[args.transpose_a ? 0 : 1]};
  auto found = plans_.find(key);
  if (found == plans_.end()) found = plans_.emplace(key, std::make_unique<Plan>(key)).first;
  uint16_t* const left = rounded(a, a_);
  found->second->Run(left, rounded(b, b_), out.as<float>());
}

}  // namespace lockstep::cpu
