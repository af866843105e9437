// Embedding sums on the vectors of one tier (namespace FASTCPU_ISA_NAME): a square of tokens x channels is summed row
// by row, where the tables are contiguous, then transposed in registers.
#pragma once
#include "embedding/embedding.h"
#include "simd/partial.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <class V>
inline V embedding_entries(const EmbeddingTable& table, int token, int tokens, int channels, int c) {
  const int32_t row = token < tokens ? table.rows[token] : 0;
  const int64_t begin = static_cast<int64_t>(row) * channels + c;
  if (table.f32) return load_first<V>(table.f32 + begin, channels - c);
  return load_first_s8<V>(table.s8 + begin, channels - c) * V::set1(table.scale[row]);
}

template <class V>
void embedding(const EmbeddingArgs& args) {
  constexpr int L = V::lanes;
  for (int t = 0; t < args.width; t += L) {
    for (int c = 0; c < args.channels; c += L) {
      V square[L];
      for (int i = 0; i < L; ++i) {
        V sum = embedding_entries<V>(args.tables[0], t + i, args.tokens, args.channels, c);
        for (int table = 1; table < args.table_count; ++table) {
          sum = sum + embedding_entries<V>(args.tables[table], t + i, args.tokens, args.channels, c);
        }
        square[i] = sum;
      }
      transpose(square);
      const int rows = args.channels - c < L ? args.channels - c : L;
      for (int i = 0; i < rows; ++i) square[i].store(args.out + static_cast<int64_t>(c + i) * args.width + t);
    }
  }
}

template <class V>
constexpr EmbeddingKernel embedding_kernel(const char* name, Isa isa) {
  return {name, isa, embedding<V>};
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
