#include "simd/avx2.h"

#include "embedding/generic.h"

namespace fastcpu {

extern const EmbeddingKernel embedding_avx2 = avx2::embedding_kernel<avx2::F32>("embedding_avx2", Isa::avx2);

}  // namespace fastcpu
