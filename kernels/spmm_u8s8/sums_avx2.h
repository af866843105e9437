// Weights and inner loop of spmm_u8s8 and gemm_u8s8 in AVX2: products of u8 and s8 are added in s16 as far as that is
// exact, and then in s32.
//
// vpmaddubsw adds two products in s16 and saturates. It cannot, whatever the inputs, if the weights of each sign add up
// to 127 at most, 127 * 255 = 32385; and sums of four products have the same limit. Since the blocks of a group may be
// added in any order, pack() makes sets of 2 or of 4 blocks that fit in all four rows; it fills up with zeros what it
// finds no partner for. Two sets are a chunk, a step of the inner loop: sets of 4 save a quarter of its
// multiplications, and pay where enough of them are full.
//
// Packed weights:
//     SumsHeader
//     u32 begin[groups * segments + 1]     group g has the chunks begin[g * segments] .. begin[(g + 1) * segments]
//     padding to 64 bytes
//     SumsChunk<header.set> chunk[begin[groups * segments]]
// All blocks of a chunk are of one segment of `length` input channels.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "gemm_u8s8/epilogue_avx2.h"

namespace fastcpu::avx2 {

// A row of inputs lies at index * its bytes / 8, which is an x86 address for 16, 32 and 64 bytes.
constexpr int kSumsScale = 8;
constexpr int kLongestSegment = 65536 / kSumsScale;

// Set s of a chunk has the blocks 2 s and 2 s + 1, and 2 s + 4 and 2 s + 5 if it is of four.
template <int kSet>
struct SumsChunk {
  uint16_t index[2 * kSet];  // (k % length) * kSumsScale
  int8_t value[4][2 * kSet];
};
static_assert(sizeof(SumsChunk<2>) == 24 && sizeof(SumsChunk<4>) == 48);

struct SumsHeader {
  uint32_t groups, segments, length, set;
};

inline size_t first_sums_chunk(size_t begins) {
  return (sizeof(SumsHeader) + begins * sizeof(uint32_t) + 63) / 64 * 64;
}

struct PackedSums {
  int segments, set;
  int64_t length;
  const uint32_t* begin;
  const void* chunks;

  explicit PackedSums(const void* packed) {
    const SumsHeader* header = static_cast<const SumsHeader*>(packed);
    segments = static_cast<int>(header->segments);
    set = static_cast<int>(header->set);
    length = header->length;
    begin = reinterpret_cast<const uint32_t*>(header + 1);
    chunks = static_cast<const char*>(packed) + first_sums_chunk(size_t{header->groups} * size_t{header->segments} + 1);
  }
};

template <int kSet>
struct SetSize {
  static constexpr int value = kSet;
};

// Calls body(SetSize<2>()) or body(SetSize<4>()).
template <class Body>
inline void with_set(const PackedSums& packed, Body body) {
  if (packed.set == 4) {
    body(SetSize<4>());
  } else {
    body(SetSize<2>());
  }
}

// ---- packing ----

template <int kSet>
class SumsPacker {
 public:
  SumsPacker(int k, int length) : length_(length), segments_((k + length - 1) / length) {}

  // A block of the current group; k ascends.
  void add(int k, const int8_t* values) {
    while (k >= (segment_ + 1) * length_) end_segment();
    const Member member = {static_cast<uint16_t>(k % length_ * kSumsScale), values[0], values[1], values[2], values[3]};
    const uint64_t block = magnitudes(values);
    for (int i = 0; i < open_; ++i) {
      if (((sets_[i].magnitudes + block) & kTooLarge) != 0) continue;
      Set& set = sets_[i];
      set.magnitudes += block;
      set.members[set.size++] = member;
      if (set.size == kSet) close(i);
      return;
    }
    if (open_ == kMostOpen) close(0);
    sets_[open_++] = {block, 1, {member}};
  }

  void end_group() {
    while (segment_ < segments_) end_segment();
    segment_ = 0;
  }

  size_t chunks() const { return chunks_.size(); }
  size_t bytes() const { return first_sums_chunk(begin_.size()) + chunks_.size() * sizeof(SumsChunk<kSet>); }

  void write(void* packed) const {
    const auto segments = static_cast<uint32_t>(segments_), begins = static_cast<uint32_t>(begin_.size());
    *static_cast<SumsHeader*>(packed) = {(begins - 1) / segments, segments, static_cast<uint32_t>(length_), kSet};
    char* bytes = static_cast<char*>(packed);
    std::memcpy(bytes + sizeof(SumsHeader), begin_.data(), begins * sizeof(Begin));
    std::copy(chunks_.begin(), chunks_.end(), reinterpret_cast<SumsChunk<kSet>*>(bytes + first_sums_chunk(begins)));
  }

 private:
  // Of sets that wait for more blocks. The oldest goes as it is.
  static constexpr int kMostOpen = 16;
  static constexpr uint64_t kTooLarge = 0x8080808080808080;

  // Of this namespace, and so is a vector of it: code for AVX2 must not be found under a name that others use.
  struct Begin {
    uint32_t chunk;
  };
  struct Member {
    uint16_t index;
    int8_t value[4];
  };
  struct Set {
    uint64_t magnitudes;
    int size;
    Member members[kSet];
  };

  // Eight sums, of the positive and of the negative weights of each row, one byte each: of at most 127.
  static uint64_t magnitudes(const int8_t* values) {
    int32_t bits;
    std::memcpy(&bits, values, sizeof bits);
    const __m128i weights = _mm_cvtsi32_si128(bits), zero = _mm_setzero_si128();
    const __m128i both = _mm_unpacklo_epi32(weights, _mm_sub_epi8(zero, weights));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_max_epi8(both, zero)));
  }

  void end_segment() {
    while (open_ > 0) close(0);
    half_full_ = false;
    begin_.push_back({static_cast<uint32_t>(chunks_.size())});
    ++segment_;
  }

  // Appends set i. Where it has no blocks, zeros multiply inputs that are read anyway.
  void close(int i) {
    const Set set = sets_[i];
    std::copy(sets_ + i + 1, sets_ + open_, sets_ + i);
    --open_;
    if (!half_full_) {
      chunks_.push_back({});
      std::fill_n(chunks_.back().index, 2 * kSet, set.members[0].index);
    }
    SumsChunk<kSet>& chunk = chunks_.back();
    for (int m = 0; m < set.size; ++m) {
      const int place = m / 2 * 4 + (half_full_ ? 2 : 0) + m % 2;
      chunk.index[place] = set.members[m].index;
      for (int r = 0; r < 4; ++r) chunk.value[r][place] = set.members[m].value[r];
    }
    half_full_ = !half_full_;
  }

  int length_, segments_;
  int segment_ = 0;
  Set sets_[kMostOpen];
  int open_ = 0;
  bool half_full_ = false;  // the last chunk
  std::vector<SumsChunk<kSet>> chunks_;
  std::vector<Begin> begin_ = {{0}};
};

// Every step-th of the groups. each_block(g, add) calls add(k, values) for the blocks of group g, ascending in k.
template <int kSet, class EachBlock>
SumsPacker<kSet> pack_groups(int groups, int step, int k, int length, EachBlock each_block) {
  SumsPacker<kSet> packer(k, length);
  for (int g = 0; g < groups; g += step) {
    each_block(g, [&](int channel, const int8_t* values) { packer.add(channel, values); });
    packer.end_group();
  }
  return packer;
}

// Packs with the sets that are better for some eight groups. A chunk of sets of 4 takes 11/6 of the time (Zen 3).
template <class EachBlock>
void pack_sums(int groups, int k, int length, EachBlock each_block, const TakeMemory& take) {
  const int step = std::max(groups / 8, 1);
  const size_t twos = pack_groups<2>(groups, step, k, length, each_block).chunks();
  const size_t fours = pack_groups<4>(groups, step, k, length, each_block).chunks();
  const auto finish = [&](const auto& packer) { packer.write(take(packer.bytes())); };
  if (6 * twos < 11 * fours) {
    finish(pack_groups<2>(groups, 1, k, length, each_block));
  } else {
    finish(pack_groups<4>(groups, 1, k, length, each_block));
  }
}

// ---- multiplication ----

// Which 16 tokens are multiplied, in runs of 8: of rows of 32 bytes, the first run of each half or the second; or the
// two runs of rows of 16 bytes.
enum class Part { first, second, both };

inline __m256i load32(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i load16(const uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// The bytes of two rows, alternating: one run in each 128-bit lane.
template <Part part>
inline __m256i interleaved(const uint8_t* row0, const uint8_t* row1) {
  if constexpr (part == Part::first) return _mm256_unpacklo_epi8(load32(row0), load32(row1));
  if constexpr (part == Part::second) return _mm256_unpackhi_epi8(load32(row0), load32(row1));
  const __m256i r0 = load16(row0), r1 = load16(row1);
  return _mm256_blend_epi32(_mm256_unpacklo_epi8(r0, r1), _mm256_unpackhi_epi8(r0, r1), 0xF0);
}

// Four rows as two vectors of 8 tokens x 4 k, in the kernel order of the epilogue. Row i lies at x + i * stride / 8.
template <Part part, int kStride>
inline void load_quad(const uint8_t* x, const uint16_t* index, __m256i (&inputs)[2]) {
  const uint8_t* row[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) row[i] = x + static_cast<int64_t>(index[i]) * (kStride / kSumsScale);
  const __m256i rows01 = interleaved<part>(row[0], row[1]), rows23 = interleaved<part>(row[2], row[3]);
  inputs[0] = _mm256_unpacklo_epi16(rows01, rows23);
  inputs[1] = _mm256_unpackhi_epi16(rows01, rows23);
}

inline __m256i broadcast_quad(const int8_t* values) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(values)));
}

// In assembly, since GCC 12 spills a sum where it orders these itself.
inline void add_products(const __m256i (&x)[2], const int8_t* values, __m256i ones, __m256i (&acc)[2]) {
  const __m256i w = broadcast_quad(values);
  __m256i a, b;
  asm("vpmaddubsw %6, %4, %2\n\t"
      "vpmaddubsw %6, %5, %3\n\t"
      "vpmaddwd %7, %2, %2\n\t"
      "vpmaddwd %7, %3, %3\n\t"
      "vpaddd %2, %0, %0\n\t"
      "vpaddd %3, %1, %1"
      : "+x"(acc[0]), "+x"(acc[1]), "=&x"(a), "=&x"(b)
      : "x"(x[0]), "x"(x[1]), "x"(w), "x"(ones));
}

// All 16 registers are in use: the second four weights are loaded twice.
inline void add_products(const __m256i (&x)[2], const __m256i (&y)[2], const int8_t* values, __m256i ones,
                         __m256i (&acc)[2]) {
  __m256i w, a, b;
  asm("vpbroadcastd %10, %2\n\t"
      "vpbroadcastd %11, %4\n\t"
      "vpmaddubsw %2, %5, %3\n\t"
      "vpmaddubsw %4, %7, %4\n\t"
      "vpmaddubsw %2, %6, %2\n\t"
      "vpaddw %4, %3, %3\n\t"
      "vpbroadcastd %11, %4\n\t"
      "vpmaddwd %9, %3, %3\n\t"
      "vpmaddubsw %4, %8, %4\n\t"
      "vpaddd %3, %0, %0\n\t"
      "vpaddw %4, %2, %2\n\t"
      "vpmaddwd %9, %2, %2\n\t"
      "vpaddd %2, %1, %1"
      : "+x"(acc[0]), "+x"(acc[1]), "=&x"(w), "=&x"(a), "=&x"(b)
      : "x"(x[0]), "x"(x[1]), "x"(y[0]), "x"(y[1]), "x"(ones), "m"(*reinterpret_cast<const int8_t (*)[4]>(values)),
        "m"(*reinterpret_cast<const int8_t (*)[4]>(values + 4)));
}

template <Part part, int kStride>
inline void accumulate(const uint8_t* x, const SumsChunk<2>* chunk, const SumsChunk<2>* end, SliceSums& acc) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (; chunk != end; ++chunk) {
    __m256i inputs[2];
    load_quad<part, kStride>(x, chunk->index, inputs);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) add_products(inputs, chunk->value[r], ones, acc[r]);
  }
}

template <Part part, int kStride>
inline void accumulate(const uint8_t* x, const SumsChunk<4>* chunk, const SumsChunk<4>* end, SliceSums& acc) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (; chunk != end; ++chunk) {
    __m256i low[2], high[2];
    load_quad<part, kStride>(x, chunk->index, low);
    load_quad<part, kStride>(x, chunk->index + 4, high);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) add_products(low, high, chunk->value[r], ones, acc[r]);
  }
}

// acc += the products of one segment of the group of rows n .. n + 3. x: the first of the 16 tokens of input channel 0.
template <Part part, int kStride, int kSet>
inline void add_segment(const PackedSums& weights, int n, int segment, const uint8_t* x, SliceSums& acc) {
  const SumsChunk<kSet>* chunks = static_cast<const SumsChunk<kSet>*>(weights.chunks);
  const uint32_t* begin = weights.begin + static_cast<int64_t>(n / 4) * weights.segments + segment;
  accumulate<part, kStride>(x + segment * weights.length * kStride, chunks + begin[0], chunks + begin[1], acc);
}

// acc = the sums of rows n .. n + 3.
template <Part part, int kStride, int kSet>
inline void sum_group(const PackedSums& weights, int n, const uint8_t* x, const QuantEpilogue& e, SliceSums& acc) {
  start_slice(e.init + n, acc);
  for (int s = 0; s < weights.segments; ++s) add_segment<part, kStride, kSet>(weights, n, s, x, acc);
}

}  // namespace fastcpu::avx2
