#include "simd/avx512vnni.h"

#include "attention_qdq/generic.h"

namespace fastcpu {

extern const AttentionQdqKernel attention_qdq_avx512vnni = {"attention_qdq_avx512vnni", Isa::avx512vnni,
                                                            avx512vnni::attention_qdq_scratch_bytes<avx512vnni::F32>,
                                                            avx512vnni::attention_qdq_run<avx512vnni::F32>};

}  // namespace fastcpu
