#include "simd/scalar.h"

#include "attention_qdq/generic.h"

namespace fastcpu {

extern const AttentionQdqKernel attention_qdq_scalar = {"attention_qdq_scalar", Isa::scalar,
                                                        scalar::attention_qdq_scratch_bytes<scalar::F32>,
                                                        scalar::attention_qdq_run<scalar::F32>};

}  // namespace fastcpu
