#include "simd/scalar.h"

#include "embedding/generic.h"

namespace fastcpu {

extern const EmbeddingKernel embedding_scalar = scalar::embedding_kernel<scalar::F32>("embedding_scalar", Isa::scalar);

}  // namespace fastcpu
