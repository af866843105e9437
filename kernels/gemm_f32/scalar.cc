#include <cmath>

#include "gemm_f32/generic.h"

namespace fastcpu {
namespace {

// Four lanes, so that compilers can vectorize where the baseline has a fused multiply-add.
struct Vector {
  static constexpr int kLanes = 4;
  struct Float {
    float lane[kLanes];
  };
  static Float load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static void store(float* p, Float v) {
    for (int i = 0; i < kLanes; ++i) p[i] = v.lane[i];
  }
  static Float broadcast(float x) { return {{x, x, x, x}}; }
  static Float add(Float a, Float b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static Float fma(Float a, Float b, Float c) {
    for (int i = 0; i < kLanes; ++i) c.lane[i] = std::fma(a.lane[i], b.lane[i], c.lane[i]);
    return c;
  }
};

void run(const GemmF32Args& args) { scalar::gemm_f32_range<Vector, 1, 2>(args); }

}  // namespace

extern const GemmF32Kernel gemm_f32_scalar = {"gemm_f32_scalar", Isa::scalar, scalar::gemm_f32_packed_bytes,
                                              scalar::gemm_f32_pack, run};

}  // namespace fastcpu
