// SPDX-License-Identifier: Apache-2.0
// cuBLASLt as its manual says, by plain loops: column by column, products added in float, or in double.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <new>

#include "tests/emulator/capture.h"
#include "tests/emulator/counts.h"

using lockstep::emulated::Enqueue;

namespace {

using lockstep::emulated::counts;

struct Layout {
  cudaDataType type;
  uint64_t rows, cols;
  int64_t ld;
};

struct Product {
  cublasOperation_t left = CUBLAS_OP_N, right = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  // Of a bias, or of what BGRADA leaves.
  void* bias = nullptr;
  uint8_t* mask = nullptr;
  int64_t mask_stride = 0;
  cudaDataType bias_type = CUDA_R_32F;
  cudaDataType scale_type = CUDA_R_32F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};

// What an algorithm may count on. The heuristic leaves it with the algorithm.
struct Promise {
  uint64_t workspace = 0;
  uint32_t reductions = 0;
  // Of the addresses of A, B, C and D.
  uint32_t alignment[4] = {256, 256, 256, 256};
};

static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(Product) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Promise) <= sizeof(cublasLtMatmulPreferenceOpaque_t) &&
              sizeof(Promise) <= sizeof(cublasLtMatmulAlgo_t));

Layout& Of(cublasLtMatrixLayout_t layout) { return *reinterpret_cast<Layout*>(layout); }
Promise& Of(cublasLtMatmulPreference_t preference) { return *reinterpret_cast<Promise*>(preference); }
Product& Of(cublasLtMatmulDesc_t product) { return *reinterpret_cast<Product*>(product); }

double At(const void* data, cudaDataType type, int64_t i) {
  switch (type) {
    case CUDA_R_64F:
      return static_cast<const double*>(data)[i];
    case CUDA_R_16BF:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
    case CUDA_R_16F:
      return __half2float(static_cast<const __half*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}

// Element (i, p) of op(matrix).
double Factor(const void* data, const Layout& layout, cublasOperation_t operation, uint64_t i, uint64_t p) {
  const uint64_t row = operation == CUBLAS_OP_N ? i : p, column = operation == CUBLAS_OP_N ? p : i;
  return At(data, layout.type, static_cast<int64_t>(row) + static_cast<int64_t>(column) * layout.ld);
}

bool Has(const Product& product, uint32_t bits) { return (product.epilogue & bits) == bits; }

void Put(void* data, cudaDataType type, uint64_t i, double value) {
  switch (type) {
    case CUDA_R_64F:
      static_cast<double*>(data)[i] = value;
      break;
    case CUDA_R_16BF:
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(static_cast<float>(value));
      break;
    case CUDA_R_16F:
      static_cast<__half*>(data)[i] = __float2half_rn(static_cast<float>(value));
      break;
    default:
      static_cast<float*>(data)[i] = static_cast<float>(value);
  }
}

// Behind the product: element (i, j) of the result.
template <typename T>
T Finish(const Product& product, T value, uint64_t i, uint64_t j) {
  const auto bit = static_cast<uint64_t>(product.mask_stride) * j + i;
  if (product.epilogue == CUBLASLT_EPILOGUE_DRELU) {
    return (product.mask[bit / 8] >> (bit % 8) & 1) != 0 ? value : T(0);
  }
  if (product.epilogue == CUBLASLT_EPILOGUE_BGRADA) return value;
  if (Has(product, CUBLASLT_EPILOGUE_BIAS)) {
    value += static_cast<T>(At(product.bias, product.bias_type, static_cast<int64_t>(i)));
  }
  if (!Has(product, CUBLASLT_EPILOGUE_RELU)) return value;
  const bool passes = value > 0;
  if (Has(product, CUBLASLT_EPILOGUE_RELU_AUX)) {
    uint8_t& byte = product.mask[bit / 8];
    byte = static_cast<uint8_t>((byte & ~(1u << (bit % 8))) | (passes ? 1u << (bit % 8) : 0u));
  }
  return passes ? value : T(0);
}

template <typename T>
void Multiply(const Product& product, T alpha, const void* a, const Layout& la, const void* b, const Layout& lb, T beta,
              void* d, const Layout& ld) {
  const uint64_t depth = product.left == CUBLAS_OP_N ? la.cols : la.rows;
  for (uint64_t j = 0; j < ld.cols; ++j) {
    for (uint64_t i = 0; i < ld.rows; ++i) {
      T sum = 0;
      for (uint64_t p = 0; p < depth; ++p) {
        sum += static_cast<T>(Factor(a, la, product.left, i, p)) * static_cast<T>(Factor(b, lb, product.right, p, j));
      }
      const uint64_t at = i + j * static_cast<uint64_t>(ld.ld);
      const T before = beta == 0 ? T(0) : beta * static_cast<T>(At(d, ld.type, static_cast<int64_t>(at)));
      Put(d, ld.type, at, static_cast<double>(Finish(product, alpha * sum + before, i, j)));
    }
  }
  if (product.epilogue != CUBLASLT_EPILOGUE_BGRADA) return;
  for (uint64_t i = 0; i < ld.rows; ++i) {
    T sum = 0;
    for (uint64_t p = 0; p < depth; ++p) sum += static_cast<T>(Factor(a, la, product.left, i, p));
    Put(product.bias, product.bias_type, i, static_cast<double>(sum));
  }
}

bool HasMask(const Product& product) {
  return product.epilogue == CUBLASLT_EPILOGUE_DRELU || Has(product, CUBLASLT_EPILOGUE_RELU_AUX);
}
bool HasVector(const Product& product) {
  return product.epilogue == CUBLASLT_EPILOGUE_BGRADA || Has(product, CUBLASLT_EPILOGUE_BIAS);
}

// Epilogues are not of doubles, a bias is of the result's type, and masks have columns of whole sixteen bytes. A width
// by seven has no gradients behind it, and one by five nothing behind a result of 16 bits, so that what is done without
// them runs too.
bool Supports(const Product& product, const Layout& d) {
  if (HasMask(product) && (product.mask_stride % 128 != 0 || product.mask_stride < static_cast<int64_t>(d.rows)))
    return false;
  const bool gradient = product.epilogue == CUBLASLT_EPILOGUE_DRELU || product.epilogue == CUBLASLT_EPILOGUE_BGRADA;
  if (product.epilogue != CUBLASLT_EPILOGUE_DEFAULT && d.type == CUDA_R_64F) return false;
  if (HasVector(product) && product.bias_type != d.type) return false;
  if (product.epilogue != CUBLASLT_EPILOGUE_DEFAULT && d.type != CUDA_R_32F && d.rows % 5 == 0) return false;
  return !gradient || (d.rows % 7 != 0 && !counts.refuse_gradients);
}

// Of an attribute; another size is refused.
template <typename T>
cublasStatus_t Take(T& to, const void* value, size_t bytes) {
  if (bytes != sizeof(to)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// What an epilogue needs is there: a vector of the result's type, bits on sixteen bytes.
bool Ready(const Product& product, const Layout& d) {
  if (HasVector(product) && (product.bias == nullptr || product.bias_type != d.type)) return false;
  return !HasMask(product) || (product.mask != nullptr && reinterpret_cast<uintptr_t>(product.mask) % 16 == 0);
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion() { return 0; }
const char* cublasLtGetStatusString(cublasStatus_t) { return "an error of the emulated cuBLASLt"; }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  if (ld < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new cublasLtMatrixLayoutOpaque_t{};
  new (*layout) Layout{type, rows, cols, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *product = new cublasLtMatmulDescOpaque_t{};
  new (*product) Product{.scale_type = scale, .compute = compute};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  delete product;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  Product& p = Of(product);
  const auto take = [&](auto& to) { return Take(to, value, bytes); };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(p.left);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(p.right);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(p.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(p.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return take(p.bias_type);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return take(p.mask);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return take(p.mask_stride);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t{};
  new (*preference) Promise{};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  Promise& p = Of(preference);
  const auto take = [&](auto& to) { return Take(to, value, bytes); };
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(p.workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(p.reductions);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return take(p.alignment[0]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return take(p.alignment[1]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return take(p.alignment[2]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(p.alignment[3]);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

// One algorithm, for what fits together.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  // What is chosen while a step is recorded was not chosen before: nothing says that it is the same.
  if (lockstep::emulated::Capturing()) return CUBLAS_STATUS_EXECUTION_FAILED;
  const bool doubles = Of(d).type == CUDA_R_64F;
  // In the order of their bits, or of who is done first.
  if ((Of(preference).reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE) != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool halves = Of(d).type == CUDA_R_16BF || Of(d).type == CUDA_R_16F;
  if (halves && Of(a).type != Of(d).type) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (Of(product).scale_type != (halves ? CUDA_R_32F : Of(d).type) ||
      (Of(product).compute == CUBLAS_COMPUTE_64F) != doubles || Of(a).type != Of(b).type ||
      (Of(product).compute == CUBLAS_COMPUTE_32F_FAST_TF32 && Of(a).type != CUDA_R_32F)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool left = Of(product).left == CUBLAS_OP_N, right = Of(product).right == CUBLAS_OP_N;
  const uint64_t m = left ? Of(a).rows : Of(a).cols, depth = left ? Of(a).cols : Of(a).rows;
  const uint64_t n = right ? Of(b).cols : Of(b).rows, other_depth = right ? Of(b).rows : Of(b).cols;
  const bool fits = m == Of(d).rows && n == Of(d).cols && depth == other_depth;
  *count = fits && Supports(Of(product), Of(d)) ? 1 : 0;
  results[0] = {};
  std::memcpy(&results[0].algo, &Of(preference), sizeof(Promise));
  return *count == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb, const void* beta,
                              const void* c, cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t bytes,
                              cudaStream_t stream) {
  lockstep::emulated::CheckStream(stream);
  if (c != d) return CUBLAS_STATUS_NOT_SUPPORTED;
  Promise promise;
  std::memcpy(static_cast<void*>(&promise), algorithm, sizeof(promise));
  const auto lies = [](const void* p, uint32_t boundary) { return reinterpret_cast<uintptr_t>(p) % boundary == 0; };
  const void* const places[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (!lies(places[i], promise.alignment[i])) return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (bytes < promise.workspace || !lies(workspace, 256) || !Ready(Of(product), Of(ld))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  // As of now: descriptions and factors are the caller's again on return.
  const auto multiply = [&]<typename T>(T) {
    Enqueue([product = Of(product), left = Of(la), right = Of(lb), result = Of(ld), a, b, d,
             one = *static_cast<const T*>(alpha),
             kept = *static_cast<const T*>(beta)] { Multiply(product, one, a, left, b, right, kept, d, result); });
  };
  if (Of(ld).type == CUDA_R_64F) {
    multiply(double{});
  } else {
    multiply(float{});
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
