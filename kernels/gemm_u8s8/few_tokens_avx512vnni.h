// gemm_u8s8 of 1 to 8 tokens in AVX-512: the lanes of a vector are weights, so that a token costs what it computes and
// every byte of weights is loaded once.
//
// Weights are those of avx512vnni.cc: 64 bytes are 4 rows x 16 k, one row in each 128-bit lane. Scratch: the tokens as
// [ceil(K / 16)][kTokens][16 k]; 16 k of a token, broadcast to all lanes, meet the four rows. Four sums are then
// reduced together: lane r of the result holds row r of four tokens, of one group of rows or of several.
#pragma once
#include <algorithm>
#include <cstring>

#include "base/tile.h"
#include "gemm_u8s8/epilogue_avx512vnni.h"

namespace fastcpu::avx512vnni {

constexpr int kFewTokens = 8;   // from more on, lanes of 16 tokens are as fast
constexpr int kStepBytes = 64;  // of weights: 4 rows x 16 k
constexpr int kStepChannels = 16;

inline int64_t steps_of(int k) { return (static_cast<int64_t>(k) + kStepChannels - 1) / kStepChannels; }

// Writes the scratch for `kTokens` tokens; channels past stride(K) are zeros.
template <int kTokens>
inline void prepare_few(const uint8_t* x, int k, uint8_t* out) {
  const int64_t quads = channel_stride(k) / 4;
  for (int64_t step = 0; step < steps_of(k); ++step, out += kTokens * kStepChannels) {
    alignas(64) uint32_t quad[4][16];  // [4 k][token], 4 bytes each
    for (int64_t q = 0; q < 4; ++q) {
      __m512i four = _mm512_setzero_si512();
      if (4 * step + q < quads)
        four = _mm512_permutexvar_epi8(kernel_order<16>(0), _mm512_loadu_si512(x + (4 * step + q) * 4 * 16));
      _mm512_store_si512(quad[q], four);
    }
    for (int t = 0; t < kTokens; ++t)
      for (int q = 0; q < 4; ++q) std::memcpy(out + t * kStepChannels + 4 * q, &quad[q][t], sizeof(uint32_t));
  }
}

// Sums over the four k of each 128-bit lane: element i of lane r of the result is the sum of lane r of acc[i].
inline __m512i reduce(const __m512i (&acc)[4]) {
  const __m512i sums01 = _mm512_add_epi32(_mm512_unpacklo_epi32(acc[0], acc[1]), _mm512_unpackhi_epi32(acc[0], acc[1]));
  const __m512i sums23 = _mm512_add_epi32(_mm512_unpacklo_epi32(acc[2], acc[3]), _mm512_unpackhi_epi32(acc[2], acc[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(sums01, sums23), _mm512_unpackhi_epi64(sums01, sums23));
}

// What element i of lane r of sums[s] is multiplied by: values[4 ((4 s + i) / kTokens) + r]. There are kGroups * 4.
template <int kTokens, int kGroups>
inline __m512 of_rows(const float* values, int s) {
  constexpr int kSets = std::min(kGroups, kTokens < 4 ? 4 / kTokens : 1);  // groups in one vector of sums
  constexpr auto kMask = static_cast<__mmask16>((1U << (4 * kSets)) - 1);
  const __m512i element = _mm512_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
  const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  const __m512i set = kTokens == 1 ? element : kTokens == 2 ? _mm512_srli_epi32(element, 1) : _mm512_setzero_si512();
  return _mm512_permutexvar_ps(_mm512_add_epi32(_mm512_slli_epi32(set, 2), lane),
                               _mm512_maskz_loadu_ps(kMask, values + 4 * s / kTokens * 4));
}

// values[(4 s + i) % kTokens] in element i of all lanes.
template <int kTokens>
inline __m512 of_tokens(const float* values, int s) {
  const __m512i element = _mm512_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
  const __m512i token =
      _mm512_and_si512(_mm512_add_epi32(element, _mm512_set1_epi32(4 * s)), _mm512_set1_epi32(kTokens - 1));
  return _mm512_permutexvar_ps(token, _mm512_loadu_ps(values));
}

template <int kTokens, int kGroups>
constexpr int kSumVectors = std::max(1, kTokens* kGroups / 4);

// The epilogue of rows [n, n + 4 kGroups), of which lane r of sums[s] has row r of a group: its element i is element
// 4 s + i of [kGroups][kTokens]. Other lanes of the output than those of the tokens become zero.
template <int kTokens, int kGroups>
inline void store_few_f32(const QuantEpilogue& e, int n, const __m512i (&sums)[4], float* out) {
  constexpr int kVectors = kSumVectors<kTokens, kGroups>;
  constexpr auto kMask = static_cast<__mmask16>((1U << kTokens) - 1);
  __m512 y[kVectors];
#pragma GCC unroll 4
  for (int s = 0; s < kVectors; ++s) {
    y[s] = scaled(sums[s], of_rows<kTokens, kGroups>(e.mul + n, s));
    if (e.token_scale != nullptr) y[s] = _mm512_mul_ps(y[s], of_tokens<kTokens>(e.token_scale, s));
    y[s] = _mm512_add_ps(y[s], of_rows<kTokens, kGroups>(e.add + n, s));
  }
  float* target = out + static_cast<int64_t>(n) * 16;
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const int first = g * kTokens / 4, last = kTokens == 8 ? first + 1 : first;
    for (int r = 0; r < 4; ++r, target += 16) {
      const __m512i from = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 0, 0, 0, 0, 0, 0, 0, 0),
                                            _mm512_set1_epi32(4 * r + g * kTokens % 4));
      _mm512_storeu_ps(target, _mm512_maskz_permutex2var_ps(kMask, y[first], from, y[last]));
    }
  }
}

template <int kTokens, int kGroups>
inline void store_few_u8(const QuantEpilogue& e, int n, const __m512i (&sums)[4], uint8_t* out) {
  __m512i q[4];
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s)
    q[s] = s >= kSumVectors<kTokens, kGroups>
               ? _mm512_setzero_si512()
               : quantized(sums[s], of_rows<kTokens, kGroups>(e.mul + n, s), of_rows<kTokens, kGroups>(e.add + n, s));
  __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
  if (e.store == Store::table) bytes = looked_up(bytes, e.table);
  constexpr uint64_t kMask = ((1ULL << kTokens) - 1) * 0x0001000100010001ULL;
  const __m512i token = _mm512_set4_epi32(0x0F0E0D0C, 0x0B0A0908, 0x07060504, 0x03020100);
  uint8_t* target = out + static_cast<int64_t>(n) * 16;
#pragma GCC unroll 16
  for (int g = 0; g < kGroups; ++g) {
    const __m512i from = _mm512_add_epi8(token, _mm512_set1_epi8(static_cast<char>(g * kTokens)));
    _mm512_storeu_si512(target + 64 * g, _mm512_maskz_shuffle_epi8(kMask, bytes, from));
  }
}

// Rows [n, n + 4 kGroups).
template <int kTokens, int kGroups>
inline void few_block(const GemmU8S8Args& args, int n) {
  __m512i acc[kGroups][kTokens];
#pragma GCC unroll 12
  for (int g = 0; g < kGroups; ++g) {
    // One of the four k of each row starts with init.
    const __m128i init = _mm_loadu_si128(reinterpret_cast<const __m128i*>(args.epilogue.init + n + 4 * g));
    const __m512i start = _mm512_maskz_expand_epi32(0x1111, _mm512_castsi128_si512(init));
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) acc[g][t] = start;
  }
  const int64_t steps = steps_of(args.k);
  const int64_t stride = steps * kStepBytes;
  const int8_t* w = static_cast<const int8_t*>(args.weights) + n / 4 * stride;
  const uint8_t* x = static_cast<const uint8_t*>(args.scratch);
  for (const int8_t* const end = w + stride; w != end; w += kStepBytes, x += kTokens * kStepChannels) {
    __m512i weights[kGroups];
#pragma GCC unroll 12
    for (int g = 0; g < kGroups; ++g) weights[g] = _mm512_load_si512(w + g * stride);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const __m512i token =
          _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(x + t * kStepChannels)));
#pragma GCC unroll 12
      for (int g = 0; g < kGroups; ++g) acc[g][t] = _mm512_dpbusd_epi32(acc[g][t], token, weights[g]);
    }
  }
  __m512i sums[4] = {};
#pragma GCC unroll 4
  for (int s = 0; s < kSumVectors<kTokens, kGroups>; ++s) {
    __m512i four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int g = (4 * s + i) / kTokens;
      four[i] = acc[g < kGroups ? g : kGroups - 1][(4 * s + i) % kTokens];
    }
    sums[s] = reduce(four);
  }
  if (args.epilogue.store == Store::f32) {
    store_few_f32<kTokens, kGroups>(args.epilogue, n, sums, static_cast<float*>(args.out));
  } else {
    store_few_u8<kTokens, kGroups>(args.epilogue, n, sums, static_cast<uint8_t*>(args.out));
  }
}

template <int kTokens, int kGroups>
inline void run_few(const GemmU8S8Args& args) {
  int n = args.n_begin;
  for (; n + 4 * kGroups <= args.n_end; n += 4 * kGroups) few_block<kTokens, kGroups>(args, n);
  for (; n < args.n_end; n += 4) few_block<kTokens, 1>(args, n);
}

}  // namespace fastcpu::avx512vnni
