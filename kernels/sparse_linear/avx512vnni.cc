#include "simd/avx512vnni.h"

#include "sparse_linear/generic.h"

namespace fastcpu {

using avx512vnni::F32;

extern const SparseLinearKernel sparse_linear_avx512vnni = {
    "sparse_linear_avx512vnni",
    Isa::avx512vnni,
    // The panel of out stays in L1; panels are as wide as they can be (Zen 4: 97 % of the peak).
    32,
    1 << 30,
    avx512vnni::sparse_forward<F32, 4>,
    avx512vnni::sparse_transposed<F32, 4>,
    avx512vnni::sparse_sampled<F32>,
    avx512vnni::panel_load<F32, avx512vnni::AsF32<F32>>,
    avx512vnni::panel_load<F32, avx512vnni::AsBf16<F32>>,
    avx512vnni::panel_store<F32, avx512vnni::AsF32<F32>>,
    avx512vnni::panel_store<F32, avx512vnni::AsBf16<F32>>,
};

}  // namespace fastcpu
