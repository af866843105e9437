#include "simd/scalar.h"

#include "pooling/generic.h"

namespace fastcpu {

extern const PoolingKernel pooling_scalar = scalar::pooling_kernel<scalar::F32>("pooling_scalar", Isa::scalar);

}  // namespace fastcpu
