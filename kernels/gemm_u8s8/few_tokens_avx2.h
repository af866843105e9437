// gemm_u8s8 of 1 to 8 tokens of a tile in AVX2: the lanes of a vector are rows of weights, so that a token costs what
// it computes.
//
// Weights: [ceil(stride(N) / 8)][ceil(K / 2)][8 rows][2 k], s8, widened to s16 as they are loaded. Scratch:
// [ceil(K / 2)][kTokens] pairs of u16; two k of a token, broadcast to all lanes, meet eight rows in vpmaddwd, which is
// exact.
#pragma once
#include <cstring>

#include "base/tile.h"
#include "gemm_u8s8/epilogue_avx2.h"
#include "simd/avx2.h"

namespace fastcpu::avx2 {

constexpr int kFewTokens = 8;  // from more on, lanes of 16 tokens are as fast
constexpr int kFewRows = 8;
constexpr int kPairBytes = 2 * kFewRows;

inline int64_t pairs_of(int k) { return (static_cast<int64_t>(k) + 1) / 2; }

inline size_t few_bytes(int n, int k) {
  return static_cast<size_t>((channel_stride(n) + kFewRows - 1) / kFewRows * pairs_of(k) * kPairBytes);
}

inline void pack_few(int n, int k, const int8_t* w, int8_t* packed) {
  std::memset(packed, 0, few_bytes(n, k));
  for (int r = 0; r < n; ++r) {
    int8_t* group = packed + r / kFewRows * pairs_of(k) * kPairBytes + r % kFewRows * 2;
    const int8_t* row = w + static_cast<int64_t>(r) * k;
    for (int i = 0; i < k; ++i) group[i / 2 * kPairBytes + i % 2] = row[i];
  }
}

// The tokens first .. first + kTokens - 1 of a tile. The row past an odd K meets weights of zero.
template <int kTokens>
inline void prepare_few(const uint8_t* x, int k, int width, int first, uint8_t* out) {
  x += first;
  for (int64_t i = 0; i < pairs_of(k); ++i, x += 2 * width, out += kTokens * sizeof(uint32_t)) {
    const __m128i rows = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)),
                                           _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x + width)));
    alignas(32) uint8_t pairs[32];
    _mm256_store_si256(reinterpret_cast<__m256i*>(pairs), _mm256_cvtepu8_epi16(rows));
    std::memcpy(out, pairs, kTokens * sizeof(uint32_t));
  }
}

// The entries of the rows n .. n + 7, of which those from `end` on are 0.
inline __m256 of_rows(const float* values, int n, int end) {
  return n + kFewRows <= end ? _mm256_loadu_ps(values + n) : _mm256_zextps128_ps256(_mm_loadu_ps(values + n));
}
inline __m256i of_rows(const int32_t* values, int n, int end) {
  return _mm256_castps_si256(of_rows(reinterpret_cast<const float*>(values), n, end));
}

// The epilogue of rows n .. n + 7, lane r of acc[t] row n + r of token first + t; writes rows [begin, end) of them and
// 8 lanes from `first` on. `table`: that of e, or nullptr.
template <int kTokens>
inline void store_few(const QuantEpilogue& e, const ByteTable* table, int n, int begin, int end, int first, int width,
                      const __m256i (&acc)[kTokens], void* out) {
  const __m256 mul = of_rows(e.mul, n, end), add = of_rows(e.add, n, end);
  F32 y[8];
#pragma GCC unroll 8
  for (int t = 0; t < 8; ++t) y[t] = F32::zero();
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    y[t].v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[t]), mul);
    if (e.token_scale != nullptr) y[t].v = _mm256_mul_ps(y[t].v, _mm256_set1_ps(e.token_scale[first + t]));
    y[t].v = _mm256_add_ps(y[t].v, add);
    if (e.store != Store::f32) y[t].v = _mm256_castsi256_ps(rounded(y[t].v));
  }
  transpose(y);
  const auto row_at = [&](int r) { return static_cast<int64_t>(n + r) * width + first; };
  for (int half = 0; half < kFewRows; half += 4) {
    if (n + half < begin || n + half >= end) continue;
    const F32* const rows = y + half;
    if (e.store == Store::f32) {
      for (int r = 0; r < 4; ++r) rows[r].store(static_cast<float*>(out) + row_at(half + r));
      continue;
    }
    const auto pair = [&](int r) {
      return _mm256_packs_epi32(_mm256_castps_si256(rows[r].v), _mm256_castps_si256(rows[r + 1].v));
    };
    __m256i bytes = _mm256_packus_epi16(pair(0), pair(2));
    if (table != nullptr) bytes = table->look_up(bytes);
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    alignas(32) uint8_t row[4][8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(row), bytes);
    for (int r = 0; r < 4; ++r) std::memcpy(static_cast<uint8_t*>(out) + row_at(half + r), row[r], 8);
  }
}

// The groups of eight rows from n on, of which rows [args.n_begin, args.n_end) are wanted.
template <int kTokens, int kGroups>
inline void few_block(const GemmU8S8Args& args, const int8_t* weights, const uint8_t* x, const ByteTable* table,
                      int first, int n) {
  const QuantEpilogue& e = args.epilogue;
  __m256i acc[kGroups][kTokens];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const __m256i init = of_rows(e.init, n + kFewRows * g, args.n_end);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) acc[g][t] = init;
  }
  const int64_t stride = pairs_of(args.k) * kPairBytes;
  const int8_t* w = weights + n / kFewRows * stride;
  for (const int8_t* const end = w + stride; w != end; w += kPairBytes, x += kTokens * sizeof(uint32_t)) {
    __m256i rows[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g)
      rows[g] = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w + g * stride)));
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const __m256i token = _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(x) + t));
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) acc[g][t] = _mm256_add_epi32(acc[g][t], _mm256_madd_epi16(token, rows[g]));
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g)
    store_few<kTokens>(e, table, n + kFewRows * g, args.n_begin, args.n_end, first, args.width, acc[g], args.out);
}

template <int kTokens, int kGroups>
inline void run_few(const GemmU8S8Args& args, const int8_t* weights, const uint8_t* x, const ByteTable* table,
                    int first) {
  int n = args.n_begin / kFewRows * kFewRows;
  for (; n + kFewRows * kGroups <= args.n_end; n += kFewRows * kGroups)
    few_block<kTokens, kGroups>(args, weights, x, table, first, n);
  for (; n < args.n_end; n += kFewRows) few_block<kTokens, 1>(args, weights, x, table, first, n);
}

}  // namespace fastcpu::avx2
