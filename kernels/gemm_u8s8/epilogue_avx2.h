// The epilogue of gemm_u8s8 and spmm_u8s8 in AVX2: four finished rows x 16 tokens at a time.
//
// The 16 tokens are two runs of 8, `first` .. and `first + kSplit` .. of the tile. acc[r][c] holds those of row n + r
// in *kernel order*, which is what interleaving input rows by lanes gives and what the saturating packs undo: 128-bit
// lane L of vector c holds tokens first + kSplit L + 4 c .. + 3.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "gemm_u8s8/gemm_u8s8.h"

namespace fastcpu::avx2 {

constexpr int kSliceWidth = 16;

using SliceSums = __m256i[4][2];

inline void start_slice(const int32_t* init, SliceSums& acc) {
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) acc[r][0] = acc[r][1] = _mm256_set1_epi32(init[r]);
}

// A table of 256 bytes for vpshufb, which looks up 16. With T(i) = entries 16 i .. 16 i + 15, half h has
// step[h][0] = T(8 h) and step[h][i] = T(8 h + i) ^ T(8 h + i - 1), so that the steps 0 .. i add up to T(8 h + i).
struct ByteTable {
  __m256i step[2][8];

  explicit ByteTable(const uint8_t* table) {
    __m256i last = _mm256_setzero_si256();
    for (int i = 0; i < 16; ++i) {
      const __m256i entries =
          _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
      step[i / 8][i % 8] = i % 8 == 0 ? entries : _mm256_xor_si256(entries, last);
      last = entries;
    }
  }

  // vpshufb gives 0 for an index with the high bit: for those of the other half, and for those below 16 i in step i.
  __m256i look_up(__m256i index) const {
    const __m256i sixteen = _mm256_set1_epi8(16);
    __m256i low = index, high = _mm256_xor_si256(index, _mm256_set1_epi8(-128));
    __m256i result = _mm256_xor_si256(_mm256_shuffle_epi8(step[0][0], low), _mm256_shuffle_epi8(step[1][0], high));
#pragma GCC unroll 7
    for (int i = 1; i < 8; ++i) {
      low = _mm256_subs_epi8(low, sixteen);
      high = _mm256_subs_epi8(high, sixteen);
      result = _mm256_xor_si256(
          result, _mm256_xor_si256(_mm256_shuffle_epi8(step[0][i], low), _mm256_shuffle_epi8(step[1][i], high)));
    }
    return result;
  }
};

inline __m256 scaled(__m256i acc, float mul) { return _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_set1_ps(mul)); }

template <int kSplit>
inline void store_slice_f32(const QuantEpilogue& e, int n, int first, int width, const SliceSums& acc, float* out) {
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m256i runs[2] = {_mm256_permute2x128_si256(acc[r][0], acc[r][1], 0x20),
                             _mm256_permute2x128_si256(acc[r][0], acc[r][1], 0x31)};
    float* y = out + static_cast<int64_t>(n + r) * width + first;
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      __m256 v = scaled(runs[i], e.mul[n + r]);
      if (e.token_scale != nullptr) v = _mm256_mul_ps(v, _mm256_loadu_ps(e.token_scale + first + kSplit * i));
      _mm256_storeu_ps(y + kSplit * i, _mm256_add_ps(v, _mm256_set1_ps(e.add[n + r])));
    }
  }
}

// The conversion turns what is below the s32 range into its smallest value, and the packs saturate that and everything
// else below 0 to 0; only the upper end has to be clamped before it.
inline __m256i rounded(__m256 y) { return _mm256_cvtps_epi32(_mm256_min_ps(y, _mm256_set1_ps(255.0F))); }

inline __m256i quantized(__m256i acc, float mul, float add) {
  return rounded(_mm256_add_ps(scaled(acc, mul), _mm256_set1_ps(add)));
}

inline __m256i quantized_row(const QuantEpilogue& e, int row, const __m256i (&acc)[2]) {
  return _mm256_packs_epi32(quantized(acc[0], e.mul[row], e.add[row]), quantized(acc[1], e.mul[row], e.add[row]));
}

// table: that of e, or nullptr.
template <int kSplit>
inline void store_slice_u8(const QuantEpilogue& e, const ByteTable* table, int n, int first, int width,
                           const SliceSums& acc, uint8_t* out) {
  uint8_t* y = out + static_cast<int64_t>(n) * width + first;
#pragma GCC unroll 2
  for (int r = 0; r < 4; r += 2, y += 2 * width) {
    __m256i bytes = _mm256_packus_epi16(quantized_row(e, n + r, acc[r]), quantized_row(e, n + r + 1, acc[r + 1]));
    if (table != nullptr) bytes = table->look_up(bytes);
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y), low);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y + kSplit), high);
    _mm_storeh_pd(reinterpret_cast<double*>(y + width), _mm_castsi128_pd(low));
    _mm_storeh_pd(reinterpret_cast<double*>(y + width + kSplit), _mm_castsi128_pd(high));
  }
}

// Calls body(table) with the epilogue's table, or nullptr if it has none.
template <class Body>
inline void with_table(const QuantEpilogue& e, Body body) {
  if (e.store == Store::table) {
    const ByteTable table(e.table);
    body(&table);
  } else {
    body(static_cast<const ByteTable*>(nullptr));
  }
}

template <int kSplit>
inline void store_slice(const QuantEpilogue& e, const ByteTable* table, int n, int first, int width,
                        const SliceSums& acc, void* out) {
  if (e.store == Store::f32) {
    store_slice_f32<kSplit>(e, n, first, width, acc, static_cast<float*>(out));
  } else {
    store_slice_u8<kSplit>(e, table, n, first, width, acc, static_cast<uint8_t*>(out));
  }
}

}  // namespace fastcpu::avx2
