#include "simd/avx512vnni.h"

#include "attention_training/generic.h"

namespace fastcpu {

extern const AttentionTrainingKernel attention_training_avx512vnni = {
    "attention_training_avx512vnni",
    Isa::avx512vnni,
    avx512vnni::attention_forward<avx512vnni::F32, 4>,
    avx512vnni::attention_backward<avx512vnni::F32, 4>,
};

}  // namespace fastcpu
