#include "simd/avx2.h"

#include "pointwise/generic.h"

namespace fastcpu {

extern const PointwiseKernel pointwise_avx2 = avx2::pointwise_kernel<avx2::F32>("pointwise_avx2", Isa::avx2);

}  // namespace fastcpu
