#include <immintrin.h>

#include "gemm_f32/generic.h"

namespace fastcpu {
namespace {

struct Vector {
  using Float = __m512;
  static constexpr int kLanes = 16;
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
  static Float broadcast(float x) { return _mm512_set1_ps(x); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
};

void run(const GemmF32Args& args) {
  if (args.width == kMinTileWidth) {
    avx512vnni::gemm_f32_range<Vector, 3, 1>(args);
  } else {
    avx512vnni::gemm_f32_range<Vector, 3, 2>(args);
  }
}

}  // namespace

extern const GemmF32Kernel gemm_f32_avx512vnni = {"gemm_f32_avx512vnni", Isa::avx512vnni,
                                                  avx512vnni::gemm_f32_packed_bytes, avx512vnni::gemm_f32_pack, run};

}  // namespace fastcpu
