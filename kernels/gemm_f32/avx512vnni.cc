#include "simd/avx512vnni.h"

#include "gemm_f32/generic.h"

namespace fastcpu {
namespace {

void run(const GemmF32Args& args) {
  if (args.width == kMinTileWidth) {
    avx512vnni::gemm_f32_range<avx512vnni::F32, 3, 1>(args);
  } else {
    avx512vnni::gemm_f32_range<avx512vnni::F32, 3, 2>(args);
  }
}

}  // namespace

extern const GemmF32Kernel gemm_f32_avx512vnni = {"gemm_f32_avx512vnni",          Isa::avx512vnni,
                                                  {0.55, 0.37, 0, 0, 0.1, false}, avx512vnni::gemm_f32_packed_bytes,
                                                  avx512vnni::gemm_f32_pack,      run};

}  // namespace fastcpu
