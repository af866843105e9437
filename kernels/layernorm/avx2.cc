#include "simd/avx2.h"

#include "layernorm/generic.h"

namespace fastcpu {

extern const LayernormKernel layernorm_avx2 = avx2::layernorm_kernel<avx2::F32>("layernorm_avx2", Isa::avx2);

}  // namespace fastcpu
