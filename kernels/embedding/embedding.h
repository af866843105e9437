// Sum of embedding rows of one token tile, transposed into the tile layout (docs/numerics.md, "embedding"):
//   out[c, t] = e_0[row_0(t), c] + e_1[row_1(t), c] + ...
// Lanes past the last token use row 0 of every table.
#pragma once
#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace fastcpu {

struct EmbeddingTable {
  const int8_t* s8;     // [rows, C] row-major, or nullptr
  const float* f32;     // [rows, C] row-major, or nullptr
  const float* scale;   // [rows] of an s8 table
  const int32_t* rows;  // [tokens of this tile] row per token; checked by the caller
};

struct EmbeddingArgs {
  const EmbeddingTable* tables;
  int table_count;  // 1 to 4
  int channels, width;
  int tokens;  // tokens of this tile, 1 .. width
  float* out;  // [C][width]
};

struct EmbeddingKernel {
  const char* name;
  Isa isa;
  void (*run)(const EmbeddingArgs& args);
};

const std::vector<const EmbeddingKernel*>& embedding_manifest();

}  // namespace fastcpu
