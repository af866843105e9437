// y = x W^T + bias and its gradients for a pruned W (sparse_linear/sparse_linear.h) and token-major activations.
#pragma once
#include <cstdint>
#include <vector>

#include "sparse_linear/sparse_linear.h"
#include "sparse_linear_bf16/sparse_linear_bf16.h"

namespace fastcpu {

// Rows [tokens][channels] without gaps; bf16 if it says so, else f32.
struct Rows {
  void* data;
  bool bf16;
};

// The blocks of one weight. Calls of any products wait for each other. Results depend on the number of threads in the
// order of the sums over tokens only. Where the CPU multiplies bf16 and y and its gradient are bf16, x and the weights
// are rounded to bf16; elsewhere all is f32 inside.
class SparseProduct {
 public:
  // keep: row-major [N, K], nonzero where a weight may be. A block is there if any of its four is. N must be a multiple
  // of 4.
  SparseProduct(const uint8_t* keep, int n, int k);
  SparseProduct(const SparseProduct&) = delete;  // its patterns point into its vectors
  SparseProduct(SparseProduct&&) = default;

  int n() const { return pattern_.n; }
  int k() const { return pattern_.k; }
  int64_t blocks() const { return static_cast<int64_t>(column_.size()); }

  // The values [blocks][4] of a row-major weight [N, K].
  void gather(Rows weight, float* values, int threads) const;
  // A row-major weight [N, K] of these values, rounded where it is bf16, zero outside the blocks.
  void scatter(const float* values, Rows weight, int threads) const;
  // y [tokens, N] of x [tokens, K]; bias [N].
  void forward(const float* values, const float* bias, Rows x, int64_t tokens, Rows y, int threads) const;
  // Of dy [tokens, N] and x: dx [tokens, K] and the gradients of the values.
  void backward(const float* values, Rows x, Rows dy, int64_t tokens, Rows dx, float* dvalues, int threads) const;

 private:
  template <class Body>
  void for_each_block(int thread, int threads, Body body) const;
  void pack_pairs(const float* values, uint32_t* packed, int threads) const;
  void pack_rows(const float* values, uint32_t* packed, int threads) const;
  template <class Body>
  void for_each_range(int64_t x_row_bytes, Body body) const;

  BlockPattern pattern_{};
  PairedBlocks pairs_{};
  std::vector<int32_t> begin_, column_, pair_begin_, pair_columns_;
  const SparseLinearKernel& kernel_;
  const SparseLinearBf16Kernel* bf16_;  // null where it would not pay
};

}  // namespace fastcpu
