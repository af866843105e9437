#include "simd/avx2.h"

#include "attention_training/generic.h"

namespace fastcpu {

extern const AttentionTrainingKernel attention_training_avx2 = {
    "attention_training_avx2",
    Isa::avx2,
    avx2::attention_forward<avx2::F32, 2>,
    avx2::attention_backward<avx2::F32, 2>,
};

}  // namespace fastcpu
