#include "simd/avx512vnni.h"

#include "pointwise/generic.h"

namespace fastcpu {

extern const PointwiseKernel pointwise_avx512vnni =
    avx512vnni::pointwise_kernel<avx512vnni::F32>("pointwise_avx512vnni", Isa::avx512vnni);

}  // namespace fastcpu
