// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/gemm.h"

#include <cstdint>
#include <utility>

#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/copy.h"
#include "worker/device/cuda/sum_rows.h"

namespace lockstep::cuda {

namespace {

// What NVIDIA asks for on Hopper; smaller GPUs want less.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

// Sums of parts whose order depends on who is done first are left out.
constexpr uint32_t kOrderedReductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;

uint32_t Alignment(const GemmPlan& plan) {
  if (plan.aligned) return 16;
  return plan.factor_type == CUDA_R_64F ? 8 : (plan.factor_type == CUDA_R_32F ? 4 : 2);
}

// What the library reads of a factor; null where memory is short, which is noted.
const void* Factor(Context& context, const GemmArgs& args, Slot slot, const Tensor& t) {
  if (!RoundsFactors(args, t.type)) return t.data;
  auto* const rounded = context.Scratch<uint16_t>(slot, static_cast<size_t>(t.elements()));
  if (rounded != nullptr) RoundFactor(context, args.precision, t.as<float>(), t.elements(), rounded);
  return rounded;
}

// The same numbers as floats.
Tensor Widened(Context& context, const Tensor& t) {
  if (!IsFactor(t.type)) return t;
  const Tensor wide{context.Scratch<float>(Slot::kWide, static_cast<size_t>(t.elements())), t.shape, DType::kF32};
  if (wide.data != nullptr) WidenFactor(context, t, wide.as<float>());
  return wide;
}

bool Aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

// The library's descriptors of one plan, and the algorithm.
class GemmCache::Entry {
 public:
  explicit Entry(const GemmPlan& plan) : plan_(plan) {}
  ~Entry() {
    for (const cublasLtMatrixLayout_t layout : {left_, right_, out_}) {
      if (layout != nullptr) static_cast<void>(cublasLtMatrixLayoutDestroy(layout));
    }
    if (product_ != nullptr) static_cast<void>(cublasLtMatmulDescDestroy(product_));
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  // False: the library refuses the plan; where something else went wrong, it is noted.
  bool Build(Context& context) {
    return Describe(context) && Layout(context, plan_.factor_type, plan_.left, left_) &&
           Layout(context, plan_.factor_type, plan_.right, right_) &&
           Layout(context, plan_.out_type, {plan_.rows, plan_.cols}, out_) && Choose(context);
  }

  Epilogue epilogue() const { return plan_.epilogue; }

  // vector: the bias, or where the rows' sums go. mask: bits, where the epilogue has some.
  void Run(Context& context, const void* left, const void* right, const void* vector, const void* mask, void* out) {
    if (HasVector() && !Set(context, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector)) return;
    if (HasMask() && !Set(context, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask)) return;
    void* workspace = context.Scratch<unsigned char>(Slot::kLibrary, kWorkspaceBytes);
    if (workspace == nullptr) return;
    const double one = 1, zero = 0;
    const float one_f = 1, zero_f = 0;
    const bool doubles = plan_.compute == CUBLAS_COMPUTE_64F;
    const void* alpha = doubles ? static_cast<const void*>(&one) : &one_f;
    const void* unscaled = doubles ? static_cast<const void*>(&zero) : &zero_f;
    const void* beta = plan_.accumulate ? alpha : unscaled;
    LOCKSTEP_CUDA_CHECK(
        context, cublasLtMatmul(context.blas, product_, alpha, left, left_, right, right_, beta, out, out_, out, out_,
                                &algorithm_, workspace, kWorkspaceBytes, context.stream));
  }

 private:
  template <typename V>
  bool Set(Context& context, cublasLtMatmulDescAttributes_t attribute, const V& value) {
    return LOCKSTEP_CUDA_CHECK(context, cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof(value)));
  }

  bool Describe(Context& context) {
    const cudaDataType_t scale = plan_.compute == CUBLAS_COMPUTE_64F ? CUDA_R_64F : CUDA_R_32F;
    if (!LOCKSTEP_CUDA_CHECK(context, cublasLtMatmulDescCreate(&product_, plan_.compute, scale))) return false;
    const cublasOperation_t left = plan_.left.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t right = plan_.right.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = LtEpilogue(plan_.epilogue);
    return Set(context, CUBLASLT_MATMUL_DESC_TRANSA, left) && Set(context, CUBLASLT_MATMUL_DESC_TRANSB, right) &&
           Set(context, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) && DescribeEpilogue(context);
  }

  // The heuristic takes an address's alignment from what it is told, and does not look there.
  bool DescribeEpilogue(Context& context) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    const auto* const somewhere = reinterpret_cast<const void*>(uintptr_t{plan_.aligned ? 16U : sizeof(float)});
    if (HasVector() && (!Set(context, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, plan_.out_type) ||
                        !Set(context, CUBLASLT_MATMUL_DESC_BIAS_POINTER, somewhere))) {
      return false;
    }
    return !HasMask() || (Set(context, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, MaskStride(plan_.rows)) &&
                          Set(context, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, somewhere));
  }

  bool HasVector() const { return AddsBias(plan_.epilogue) || plan_.epilogue == Epilogue::kRowSums; }
  bool HasMask() const { return LeavesMask(plan_.epilogue) || plan_.epilogue == Epilogue::kReluGradient; }

  static bool Layout(Context& context, cudaDataType_t type, const LtMatrix& matrix, cublasLtMatrixLayout_t& to) {
    return LOCKSTEP_CUDA_CHECK(context, cublasLtMatrixLayoutCreate(&to, type, static_cast<uint64_t>(matrix.rows),
                                                                   static_cast<uint64_t>(matrix.cols), matrix.rows));
  }

  bool Choose(Context& context) {
    cublasLtMatmulPreference_t preference = nullptr;
    if (!LOCKSTEP_CUDA_CHECK(context, cublasLtMatmulPreferenceCreate(&preference))) return false;
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return LOCKSTEP_CUDA_CHECK(context,
                                 cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
    };
    bool ready = set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}) &&
                 set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kOrderedReductions);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      ready = ready && set(attribute, Alignment(plan_));
    }
    int found = 0;
    cublasLtMatmulHeuristicResult_t result{};
    // A refusal is an answer.
    if (ready) {
      const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(context.blas, product_, left_, right_, out_, out_,
                                                                   preference, 1, &result, &found);
      ready = status == CUBLAS_STATUS_SUCCESS && found == 1;
    }
    algorithm_ = result.algo;
    static_cast<void>(cublasLtMatmulPreferenceDestroy(preference));
    return ready;
  }

  const GemmPlan plan_;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t left_ = nullptr, right_ = nullptr, out_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
};

GemmCache::GemmCache() = default;
GemmCache::~GemmCache() = default;

GemmCache::Entry* GemmCache::Find(Context& context, const GemmPlan& plan) {
  const auto found = entries_.find(plan);
  if (found != entries_.end()) return found->second.get();
  auto entry = std::make_unique<Entry>(plan);
  // What was refused once is not asked for again.
  if (!entry->Build(context)) entry = nullptr;
  return entries_.emplace(plan, std::move(entry)).first->second.get();
}

GemmCache::Entry* GemmCache::Choose(Context& context, const GemmArgs& args, const Tensor& a, const Tensor& b,
                                    bool has_bias, const Tensor& out, bool aligned) {
  const auto mask = masks_.find(args.mask.data);
  const bool has_mask = !args.before.linear() && mask != masks_.end() && mask->second;
  for (const Epilogue epilogue : Epilogues(args, has_bias, out.type, has_mask)) {
    Entry* const entry = Find(context, PlanGemm(args, a, b, out, epilogue, aligned));
    if (entry != nullptr) return entry;
  }
  return nullptr;
}

void GemmCache::RunWide(Context& context, const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const Tensor wide{context.Scratch<float>(Slot::kWideOut, static_cast<size_t>(out.elements())), out.shape,
                    DType::kF32};
  GemmArgs widened = args;
  widened.source = Widened(context, args.source);
  if (wide.data == nullptr) return;
  Run(context, widened, a, b, bias, wide);
  RoundFactor(context, args.precision, wide.as<float>(), wide.elements(), out.data);
}

void GemmCache::Run(Context& context, const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const int64_t k = a.shape[args.transpose_a ? 0 : 1];
  if (out.elements() == 0 || (k == 0 && args.accumulate)) return;
  if (k == 0) {
    if (IsFactor(out.type)) return RunWide(context, args, a, b, bias, out);
    Fill(context, out, 0);
    if (args.row_sums.data != nullptr) Fill(context, args.row_sums, 0);
    return BiasActivation(context, args.activation, bias, out);
  }
  const void* const left = Factor(context, args, Slot::kLeft, b);
  const void* const right = Factor(context, args, Slot::kRight, a);
  // A library's bias is of the result's type.
  const bool rounds_bias = bias.data != nullptr && IsFactor(out.type);
  const void* const added = rounds_bias ? Factor(context, args, Slot::kVector, bias) : bias.data;
  if (left == nullptr || right == nullptr || (rounds_bias && added == nullptr)) return;
  const void* const vector = args.row_sums.data != nullptr ? args.row_sums.data : added;
  const bool aligned =
      Aligned(left) && Aligned(right) && Aligned(out.data) && Aligned(vector) && Aligned(args.mask.data);
  const bool has_bias = bias.data != nullptr;
  Entry* const entry = Choose(context, args, a, b, has_bias, out, aligned);
  if (IsFactor(out.type) && (entry == nullptr || !DoesAll(entry->epilogue(), args, has_bias))) {
    return RunWide(context, args, a, b, bias, out);
  }
  if (entry == nullptr) {
    return context.failure.Note("cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__,
                                "cuBLASLt has no algorithm for a product of this shape");
  }
  entry->Run(context, left, right, vector, args.mask.data, out.data);
  const Epilogue done = entry->epilogue();
  if (args.mask.data != nullptr && args.before.linear()) masks_[args.mask.data] = LeavesMask(done);
  const ActivationArgs activation = AppliesRelu(done) ? ActivationArgs{} : args.activation;
  const Tensor missing_bias = AddsBias(done) ? Tensor{} : bias;
  if (missing_bias.data != nullptr || !activation.linear()) BiasActivation(context, activation, missing_bias, out);
  if (args.row_sums.data != nullptr && done != Epilogue::kRowSums) {
    SumRows(context, Widened(context, b), args.row_sums);
  }
  if (!args.before.linear() && done != Epilogue::kReluGradient) {
    ActivationBackward(context, args.before, {}, Widened(context, args.source), out, out);
  }
}

}  // namespace lockstep::cuda
