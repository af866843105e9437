#include "simd/avx2.h"

#include "pooling/generic.h"

namespace fastcpu {

extern const PoolingKernel pooling_avx2 = avx2::pooling_kernel<avx2::F32>("pooling_avx2", Isa::avx2);

}  // namespace fastcpu
