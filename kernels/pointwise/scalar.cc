#include "simd/scalar.h"

#include "pointwise/generic.h"

namespace fastcpu {

extern const PointwiseKernel pointwise_scalar = scalar::pointwise_kernel<scalar::F32>("pointwise_scalar", Isa::scalar);

}  // namespace fastcpu
