// The packed weights of spmm_u8s8, compiled once per ISA file in that ISA's namespace:
//     Header
//     u32 begin[groups * segments + 1]     group g has the chunks begin[g * segments] .. begin[(g + 1) * segments]
//     u32 middle[groups]                   its chunks from here on begin in the second half of the input channels
//                                          (for AVX-512's tiles that are larger than L1)
//     padding to 64 bytes
//     Chunk chunk[begin[groups * segments] + Chunk::lookahead]
// A chunk holds up to Chunk::blocks blocks of one group, ascending in k, all from one segment of Chunk::segment input
// channels: index = (k % segment) * Chunk::scale. A chunk that is not full is filled up with zero weights on an input
// channel that it reads anyway, and a group has at least Chunk::minimum chunks per segment, of zeros where it has no
// more blocks; the chunks of zeros at the end let a kernel prefetch past the last group.
#pragma once
#include <cstring>

#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <int kBlocks, class Value, int kSegment = 65536, int kScale = 1, int kLookahead = 0, int kMinimum = 0>
struct Chunk {
  static constexpr int blocks = kBlocks;
  static constexpr int segment = kSegment;
  static constexpr int scale = kScale;
  static constexpr int lookahead = kLookahead;
  static constexpr int minimum = kMinimum;

  uint16_t index[kBlocks];
  Value value[4][kBlocks];
};

struct PackedHeader {
  uint32_t groups, segments;
};

inline size_t chunks_offset(size_t groups, size_t segments) {
  return (sizeof(PackedHeader) + (groups * segments + 1 + groups) * sizeof(uint32_t) + 63) / 64 * 64;
}

template <class Chunk>
struct PackedBlocks {
  int segments;
  const uint32_t *begin, *middle;
  const Chunk* chunks;

  explicit PackedBlocks(const void* packed) {
    const PackedHeader* header = static_cast<const PackedHeader*>(packed);
    const char* bytes = static_cast<const char*>(packed) + chunks_offset(header->groups, header->segments);
    segments = static_cast<int>(header->segments);
    begin = reinterpret_cast<const uint32_t*>(header + 1);
    middle = begin + static_cast<size_t>(header->groups) * header->segments + 1;
    chunks = reinterpret_cast<const Chunk*>(bytes);
  }
};

template <class Chunk>
size_t packed_segments(const Blocks4x1& w) {
  return static_cast<size_t>((w.k + Chunk::segment - 1) / Chunk::segment);
}

// Writes what is described above, or counts only, if `packed` is nullptr. Returns the number of bytes.
template <class Chunk>
size_t write_packed_blocks(const Blocks4x1& w, void* packed) {
  const size_t groups = static_cast<size_t>(w.n) / 4;
  const size_t segments = packed_segments<Chunk>(w);
  const size_t offset = chunks_offset(groups, segments);
  uint32_t *begin = nullptr, *middle = nullptr;
  Chunk* chunk = nullptr;
  if (packed != nullptr) {
    PackedHeader* header = static_cast<PackedHeader*>(packed);
    *header = {static_cast<uint32_t>(groups), static_cast<uint32_t>(segments)};
    begin = reinterpret_cast<uint32_t*>(header + 1);
    middle = begin + groups * segments + 1;
    chunk = reinterpret_cast<Chunk*>(static_cast<char*>(packed) + offset);
  }
  size_t chunks = 0;
  for (size_t g = 0; g < groups; ++g) {
    uint32_t b = w.offsets[g];
    size_t half = chunks;
    for (size_t s = 0; s < segments; ++s) {
      if (begin != nullptr) begin[g * segments + s] = static_cast<uint32_t>(chunks);
      const int base = static_cast<int>(s) * Chunk::segment;
      uint32_t end = b;
      while (end < w.offsets[g + 1] && w.index[end] - base < Chunk::segment) ++end;
      const size_t enough = chunks + Chunk::minimum;
      for (; b < end; ++chunks) {
        if (w.index[b] < w.k / 2) half = chunks + 1;
        const uint32_t filled = end - b < Chunk::blocks ? end - b : Chunk::blocks;
        if (chunk != nullptr) {
          for (uint32_t i = 0; i < Chunk::blocks; ++i) {
            const uint32_t from = b + (i < filled ? i : filled - 1);
            chunk[chunks].index[i] = static_cast<uint16_t>((w.index[from] - base) * Chunk::scale);
            for (size_t r = 0; r < 4; ++r)
              chunk[chunks].value[r][i] = i < filled ? w.values[static_cast<size_t>(from) * 4 + r] : int8_t{0};
          }
        }
        b += filled;
      }
      for (; chunks < enough; ++chunks)
        if (chunk != nullptr) chunk[chunks] = Chunk{};
    }
    if (middle != nullptr) middle[g] = static_cast<uint32_t>(half);
  }
  if (packed != nullptr) {
    begin[groups * segments] = static_cast<uint32_t>(chunks);
    std::memset(static_cast<void*>(chunk + chunks), 0, Chunk::lookahead * sizeof(Chunk));
  }
  return offset + (chunks + Chunk::lookahead) * sizeof(Chunk);
}

template <class Chunk>
void pack_blocks(const Blocks4x1& w, const TakeMemory& take) {
  write_packed_blocks<Chunk>(w, take(write_packed_blocks<Chunk>(w, nullptr)));
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
