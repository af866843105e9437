#include "simd/scalar.h"

#include "gemm_f32/generic.h"

namespace fastcpu {
namespace {

void run(const GemmF32Args& args) { scalar::gemm_f32_range<scalar::F32, 1, 2>(args); }

}  // namespace

extern const GemmF32Kernel gemm_f32_scalar = {
    "gemm_f32_scalar",     Isa::scalar, {0.5, 0.25, 0, 0, 0.01, true}, scalar::gemm_f32_packed_bytes,
    scalar::gemm_f32_pack, run};

}  // namespace fastcpu
