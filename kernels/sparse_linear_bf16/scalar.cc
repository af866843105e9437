#include "simd/scalar.h"

#include "sparse_linear_bf16/sparse_linear_bf16.h"

namespace fastcpu {
namespace scalar {
namespace {

float upper_half(uint32_t bits) {
  bits <<= 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

float low(uint32_t pair) { return upper_half(pair & 0xffffu); }
float high(uint32_t pair) { return upper_half(pair >> 16); }

void forward(const PairedBlocks& pairs, const uint32_t* weights, const float* bias, Bf16Panel x, int width, int first,
             int last, Panel out) {
  for (int row = 4 * first; row < 4 * last; ++row)
    for (int t = 0; t < width; ++t) {
      float sum = 0;
      for (int pair = pairs.begin[row / 4]; pair < pairs.begin[row / 4 + 1]; ++pair) {
        const uint32_t weight = weights[4 * static_cast<int64_t>(pair) + row % 4];
        const int32_t* columns = pairs.columns + 2 * static_cast<int64_t>(pair);
        sum += low(weight) * upper_half(x.data[columns[0] * x.stride + t]);
        sum += high(weight) * upper_half(x.data[columns[1] * x.stride + t]);
      }
      out.data[(row - 4 * first) * out.stride + t] = sum + bias[row];
    }
}

void transposed(const BlockPattern& pattern, const uint32_t* weights, Bf16Panel dy, int width, Panel dx) {
  for (int c = 0; c < pattern.k; ++c)
    for (int t = 0; t < width; ++t) dx.data[c * dx.stride + t] = 0;
  for (int group = 0; group < pattern.n / 4; ++group)
    for (int block = pattern.begin[group]; block < pattern.begin[group + 1]; ++block)
      for (int t = 0; t < width; ++t) {
        const uint16_t* rows = dy.data + 4 * group * dy.stride + t;
        float& sum = dx.data[pattern.column[block] * dx.stride + t];
        for (int half = 0; half < 2; ++half) {
          const uint32_t weight = weights[2 * static_cast<int64_t>(block) + half];
          sum += low(weight) * upper_half(rows[2 * half * dy.stride]);
          sum += high(weight) * upper_half(rows[(2 * half + 1) * dy.stride]);
        }
      }
}

void sampled(const int32_t* column, int blocks, Bf16Panel x, Bf16Panel dy, int width, int group, float* dw) {
  for (int block = 0; block < blocks; ++block)
    for (int r = 0; r < 4; ++r) {
      float sum = 0;
      for (int t = 0; t < width; ++t)
        sum += upper_half(x.data[column[block] * x.stride + t]) * upper_half(dy.data[(4 * group + r) * dy.stride + t]);
      dw[4 * block + r] += sum;
    }
}

uint16_t bits_of(uint16_t bits) { return bits; }
uint16_t bits_of(float value) {
  uint16_t bits[F32::lanes];
  F32::set1(value).store_bf16(bits);
  return bits[0];
}

template <class Element>
void load(const Element* rows, int64_t pitch, int tokens, int channels, int width, Bf16Panel out) {
  for (int c = 0; c < channels; ++c)
    for (int t = 0; t < width; ++t)
      out.data[c * out.stride + t] = t < tokens ? bits_of(rows[t * pitch + c]) : uint16_t{0};
}

}  // namespace
}  // namespace scalar

extern const SparseLinearBf16Kernel sparse_linear_bf16_scalar = {
    "sparse_linear_bf16_scalar", Isa::scalar, scalar::forward, scalar::transposed, scalar::sampled, scalar::load<float>,
    scalar::load<uint16_t>,
};

}  // namespace fastcpu
