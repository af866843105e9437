#include "simd/avx512vnni.h"

#include "embedding/generic.h"

namespace fastcpu {

extern const EmbeddingKernel embedding_avx512vnni =
    avx512vnni::embedding_kernel<avx512vnni::F32>("embedding_avx512vnni", Isa::avx512vnni);

}  // namespace fastcpu
