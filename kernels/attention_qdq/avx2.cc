#include "simd/avx2.h"

#include "attention_qdq/generic.h"

namespace fastcpu {

extern const AttentionQdqKernel attention_qdq_avx2 = {
    "attention_qdq_avx2", Isa::avx2, avx2::attention_qdq_scratch_bytes<avx2::F32>, avx2::attention_qdq_run<avx2::F32>};

}  // namespace fastcpu
