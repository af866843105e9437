// The packed weights of spmm_u8s8, compiled once per ISA file in that ISA's namespace:
//     u32 begin[groups + 1]     the chunks of group g are begin[g] .. begin[g + 1]
//     padding to 64 bytes
//     Chunk chunk[begin[groups] + kLookahead]
// A chunk holds kBlocks blocks of one group, ascending in k. A group's last chunk is filled up with zero weights on an
// input channel that the chunk reads anyway; kLookahead chunks of zeros let a kernel prefetch past the end.
#pragma once
#include <cstring>

#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <int kBlocks, class Value>
struct Chunk {
  static constexpr int blocks = kBlocks;
  uint16_t index[kBlocks];
  Value value[4][kBlocks];
};

inline size_t chunks_offset(int groups) {
  return (sizeof(uint32_t) + (static_cast<size_t>(groups) + 1) * sizeof(uint32_t) + 63) / 64 * 64;
}

template <class Chunk>
struct PackedBlocks {
  const uint32_t* begin;
  const Chunk* chunks;

  explicit PackedBlocks(const void* packed) {
    const uint32_t* words = static_cast<const uint32_t*>(packed);
    begin = words + 1;
    const char* bytes = static_cast<const char*>(packed) + chunks_offset(static_cast<int>(words[0]));
    chunks = reinterpret_cast<const Chunk*>(bytes);
  }
};

template <class Chunk>
uint32_t chunks_of_group(const Blocks4x1& w, int group) {
  return (w.offsets[group + 1] - w.offsets[group] + Chunk::blocks - 1) / Chunk::blocks;
}

template <class Chunk, int kLookahead>
size_t packed_blocks_bytes(const Blocks4x1& w) {
  size_t chunks = kLookahead;
  for (int g = 0; g < w.n / 4; ++g) chunks += chunks_of_group<Chunk>(w, g);
  return chunks_offset(w.n / 4) + chunks * sizeof(Chunk);
}

template <class Chunk, int kLookahead>
void pack_blocks(const Blocks4x1& w, void* packed) {
  const int groups = w.n / 4;
  std::memset(packed, 0, packed_blocks_bytes<Chunk, kLookahead>(w));
  uint32_t* words = static_cast<uint32_t*>(packed);
  words[0] = static_cast<uint32_t>(groups);
  uint32_t* begin = words + 1;
  Chunk* chunk = reinterpret_cast<Chunk*>(static_cast<char*>(packed) + chunks_offset(groups));
  for (int g = 0; g < groups; ++g) {
    begin[g + 1] = begin[g] + chunks_of_group<Chunk>(w, g);
    const uint32_t end = w.offsets[g + 1];
    for (uint32_t b = w.offsets[g]; b < end; ++chunk) {
      for (int i = 0; i < Chunk::blocks; ++i) {
        chunk->index[i] = w.index[b < end ? b : end - 1];
        if (b == end) continue;
        for (int r = 0; r < 4; ++r) chunk->value[r][i] = w.values[static_cast<size_t>(b) * 4 + static_cast<size_t>(r)];
        ++b;
      }
    }
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
