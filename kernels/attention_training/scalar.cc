#include "simd/scalar.h"

#include "attention_training/generic.h"

namespace fastcpu {

extern const AttentionTrainingKernel attention_training_scalar = {
    "attention_training_scalar",
    Isa::scalar,
    scalar::attention_forward<scalar::F32, 2>,
    scalar::attention_backward<scalar::F32, 2>,
};

}  // namespace fastcpu
