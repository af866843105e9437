#include "simd/scalar.h"

#include "layernorm/generic.h"

namespace fastcpu {

extern const LayernormKernel layernorm_scalar = scalar::layernorm_kernel<scalar::F32>("layernorm_scalar", Isa::scalar);

}  // namespace fastcpu
