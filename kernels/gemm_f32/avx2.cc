#include "simd/avx2.h"

#include "gemm_f32/generic.h"

namespace fastcpu {
namespace {

// 12 accumulators of one vector: enough chains for an FMA latency of 5, and 4 registers left.
void run(const GemmF32Args& args) { avx2::gemm_f32_range<avx2::F32, 3, 1>(args); }

}  // namespace

extern const GemmF32Kernel gemm_f32_avx2 = {
    "gemm_f32_avx2", Isa::avx2, {0.5, 0.26, 0, 0, 0.02, true}, avx2::gemm_f32_packed_bytes, avx2::gemm_f32_pack, run};

}  // namespace fastcpu
