#include "simd/scalar.h"

#include "sparse_linear/generic.h"

namespace fastcpu {

using scalar::F32;

extern const SparseLinearKernel sparse_linear_scalar = {
    "sparse_linear_scalar",
    Isa::scalar,
    32,
    1 << 30,
    scalar::sparse_forward<F32, 2>,
    scalar::sparse_transposed<F32, 2>,
    scalar::sparse_sampled<F32>,
    scalar::panel_load<F32, scalar::AsF32<F32>>,
    scalar::panel_load<F32, scalar::AsBf16<F32>>,
    scalar::panel_store<F32, scalar::AsF32<F32>>,
    scalar::panel_store<F32, scalar::AsBf16<F32>>,
};

}  // namespace fastcpu
