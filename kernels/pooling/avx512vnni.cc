#include "simd/avx512vnni.h"

#include "pooling/generic.h"

namespace fastcpu {

extern const PoolingKernel pooling_avx512vnni =
    avx512vnni::pooling_kernel<avx512vnni::F32>("pooling_avx512vnni", Isa::avx512vnni);

}  // namespace fastcpu
