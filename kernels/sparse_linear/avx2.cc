#include "simd/avx2.h"

#include "sparse_linear/generic.h"

namespace fastcpu {

using avx2::F32;

extern const SparseLinearKernel sparse_linear_avx2 = {
    "sparse_linear_avx2",
    Isa::avx2,
    // The panels of x and out are read again and again while they are in L2 (Zen 3).
    384,
    400 << 10,
    avx2::sparse_forward<F32, 3>,
    avx2::sparse_transposed<F32, 3>,
    avx2::sparse_sampled<F32>,
    avx2::panel_load<F32, avx2::AsF32<F32>>,
    avx2::panel_load<F32, avx2::AsBf16<F32>>,
    avx2::panel_store<F32, avx2::AsF32<F32>>,
    avx2::panel_store<F32, avx2::AsBf16<F32>>,
};

}  // namespace fastcpu
