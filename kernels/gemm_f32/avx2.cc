#include <immintrin.h>

#include "gemm_f32/generic.h"

namespace fastcpu {
namespace {

struct Vector {
  using Float = __m256;
  static constexpr int kLanes = 8;
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
  static Float broadcast(float x) { return _mm256_set1_ps(x); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
};

// 12 accumulators of one vector: enough chains for an FMA latency of 5, and 4 registers left.
void run(const GemmF32Args& args) { avx2::gemm_f32_range<Vector, 3, 1>(args); }

}  // namespace

extern const GemmF32Kernel gemm_f32_avx2 = {"gemm_f32_avx2", Isa::avx2, avx2::gemm_f32_packed_bytes,
                                            avx2::gemm_f32_pack, run};

}  // namespace fastcpu
