// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/gemm_plan.h"

namespace lockstep::cuda {

namespace {

// A row-major matrix [rows, cols] is a column-major one [cols, rows].
LtMatrix Turned(const Tensor& t, bool transposed) { return {t.shape[1], t.shape[0], transposed}; }

}  // namespace

bool RoundsFactors(const GemmArgs& args, DType type) {
  return type == DType::kF32 &&
         (args.precision == ProductPrecision::kBf16 || args.precision == ProductPrecision::kFloat16);
}

DType FactorTypeOf(ProductPrecision precision) {
  if (precision == ProductPrecision::kBf16) return DType::kBF16;
  return precision == ProductPrecision::kFloat16 ? DType::kF16 : DType::kF32;
}

bool DoesAll(Epilogue epilogue, const GemmArgs& args, bool has_bias) {
  return AddsBias(epilogue) == has_bias && AppliesRelu(epilogue) == !args.activation.linear() &&
         (epilogue == Epilogue::kReluGradient) == !args.before.linear();
}

std::array<Epilogue, 3> Epilogues(const GemmArgs& args, bool has_bias, DType type, bool has_mask) {
  constexpr Epilogue kNone = Epilogue::kNone;
  if (args.accumulate || type == DType::kF64) return {kNone, kNone, kNone};
  if (args.row_sums.data != nullptr) return {Epilogue::kRowSums, kNone, kNone};
  if (args.before.kind == Activation::kRelu) return {has_mask ? Epilogue::kReluGradient : kNone, kNone, kNone};
  if (args.activation.linear()) return {has_bias ? Epilogue::kBias : kNone, kNone, kNone};
  if (args.activation.kind != Activation::kRelu) return {kNone, kNone, kNone};
  const Epilogue relu = has_bias ? Epilogue::kReluBias : Epilogue::kRelu;
  if (args.mask.data == nullptr) return {relu, kNone, kNone};
  return {has_bias ? Epilogue::kReluBiasMask : Epilogue::kReluMask, relu, kNone};
}

GemmPlan PlanGemm(const GemmArgs& args, const Tensor& a, const Tensor& b, const Tensor& out, Epilogue epilogue,
                  bool aligned) {
  GemmPlan plan{.left = Turned(b, args.transpose_b),
                .right = Turned(a, args.transpose_a),
                .rows = out.shape[1],
                .cols = out.shape[0],
                .epilogue = epilogue,
                .accumulate = args.accumulate,
                .aligned = aligned};
  if (out.type == DType::kF64) {
    plan.factor_type = plan.out_type = CUDA_R_64F;
    plan.compute = CUBLAS_COMPUTE_64F;
    return plan;
  }
  switch (args.precision) {
    case ProductPrecision::kFloat:
      break;
    case ProductPrecision::kTf32:
      plan.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
      break;
    case ProductPrecision::kBf16:
      plan.factor_type = CUDA_R_16BF;
      break;
    case ProductPrecision::kFloat16:
      plan.factor_type = CUDA_R_16F;
      break;
  }
  if (IsFactor(out.type)) plan.out_type = plan.factor_type;
  return plan;
}

cublasLtEpilogue_t LtEpilogue(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kNone:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::kRelu:
      return CUBLASLT_EPILOGUE_RELU;
    case Epilogue::kReluBias:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
    case Epilogue::kReluMask:
      return CUBLASLT_EPILOGUE_RELU_AUX;
    case Epilogue::kReluBiasMask:
      return CUBLASLT_EPILOGUE_RELU_AUX_BIAS;
    case Epilogue::kReluGradient:
      return CUBLASLT_EPILOGUE_DRELU;
    case Epilogue::kRowSums:
      return CUBLASLT_EPILOGUE_BGRADA;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

}  // namespace lockstep::cuda
