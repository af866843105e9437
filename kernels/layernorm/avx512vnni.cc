#include "simd/avx512vnni.h"

#include "layernorm/generic.h"

namespace fastcpu {

extern const LayernormKernel layernorm_avx512vnni =
    avx512vnni::layernorm_kernel<avx512vnni::F32>("layernorm_avx512vnni", Isa::avx512vnni);

}  // namespace fastcpu
