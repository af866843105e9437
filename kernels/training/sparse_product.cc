#include "training/sparse_product.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/buffer.h"
#include "base/error.h"
#include "base/manifest.h"
#include "training/team.h"

namespace fastcpu {
namespace {

// Output channels that forward computes in bf16 before it writes them back as rows: their panel stays in L1.
constexpr int kOutRowsBf16 = 32;
constexpr int64_t kMaxWidth = 256;
// How much of x products with dy read again and again; it stays in L2.
constexpr int64_t kSampledBytes = 400 << 10;

constexpr int kLanes = 32;  // widths are multiples of it, as bf16 wants

// Elements from row to row of a panel: an odd number of cache lines, so that a column of it uses all sets of a cache.
constexpr int64_t stride_of_f32(int width) { return width + 16; }
constexpr int64_t stride_of_bf16(int width) { return width + kLanes + width % (2 * kLanes); }

constexpr int lanes_of(int64_t tokens) { return static_cast<int>((tokens + kLanes - 1) / kLanes * kLanes); }

struct Range {
  int64_t begin, end;
};

// Cuts tokens into panels of at most `most`, equally many for each thread, of about the same width.
class Panels {
 public:
  Panels(int64_t tokens, int threads, int64_t most) : tokens_(tokens) {
    const int64_t least = (tokens + most - 1) / most;
    per_thread_ = std::max<int64_t>(1, (least + threads - 1) / threads);
    width_ = std::max(kLanes, lanes_of((tokens + per_thread_ * threads - 1) / (per_thread_ * threads)));
  }
  int width() const { return static_cast<int>(width_); }

  template <class Body>
  void of_thread(int thread, Body body) const {
    for (int64_t i = 0; i < per_thread_; ++i) {
      const int64_t begin = (thread * per_thread_ + i) * width_;
      if (begin < tokens_) body(begin, static_cast<int>(std::min(width_, tokens_ - begin)));
    }
  }

 private:
  int64_t tokens_, per_thread_, width_;
};

template <class Kernel, class PanelOfKernel>
void load(const Kernel& kernel, Rows rows, int64_t first, int tokens, int channels, PanelOfKernel out) {
  const int64_t at = first * channels;
  const int width = lanes_of(tokens);
  if (rows.bf16)
    kernel.load_bf16(static_cast<const uint16_t*>(rows.data) + at, channels, tokens, channels, width, out);
  else
    kernel.load_f32(static_cast<const float*>(rows.data) + at, channels, tokens, channels, width, out);
}

void store(const SparseLinearKernel& kernel, Panel in, Rows rows, int64_t first, int tokens, int channel, int channels,
           int pitch) {
  const int64_t at = first * pitch + channel;
  if (rows.bf16)
    kernel.store_bf16(in, tokens, channels, pitch, static_cast<uint16_t*>(rows.data) + at);
  else
    kernel.store_f32(in, tokens, channels, pitch, static_cast<float*>(rows.data) + at);
}

// Memory of one thread; panels of either format.
struct Scratch {
  AlignedBuffer x, y, out, dw;

  Panel f32(const AlignedBuffer& buffer, int width) const { return {buffer.as<float>(), stride_of_f32(width)}; }
  Bf16Panel bf16(const AlignedBuffer& buffer, int width) const {
    return {buffer.as<uint16_t>(), stride_of_bf16(width)};
  }
};

// One for all products, so that it stays in the caches; taken for a whole call.
class Workspace {
 public:
  Workspace(int threads, int rows_x, int rows_y, int rows_out, int width, size_t sums, size_t weights) : lock_(mutex) {
    if (static_cast<int>(scratch.size()) < threads) scratch.resize(static_cast<size_t>(threads));
    const size_t row = static_cast<size_t>(stride_of_bf16(width)) * sizeof(float);
    for (int thread = 0; thread < threads; ++thread) {
      Scratch& each = scratch[static_cast<size_t>(thread)];
      each.x.reserve(static_cast<size_t>(rows_x) * row);
      each.y.reserve(static_cast<size_t>(rows_y) * row);
      each.out.reserve(static_cast<size_t>(rows_out) * row);
      each.dw.reserve(sums * sizeof(float));
    }
    packed.reserve(weights * sizeof(uint32_t));
  }
  const Scratch& of(int thread) const { return scratch[static_cast<size_t>(thread)]; }
  uint32_t* weights() const { return packed.as<uint32_t>(); }

 private:
  static inline std::mutex mutex;
  static inline std::vector<Scratch> scratch;
  static inline AlignedBuffer packed;
  const std::lock_guard<std::mutex> lock_;
};

uint32_t bf16_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return value != value ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

float f32_of(uint16_t bf16) {
  const uint32_t bits = uint32_t{bf16} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

uint32_t bf16_pair(float first, float second) { return bf16_of(first) | bf16_of(second) << 16; }

// The variant that multiplies bf16, unless it is the portable one: that would be slower than f32.
const SparseLinearBf16Kernel* bf16_kernel() {
  const SparseLinearBf16Kernel& kernel = select(sparse_linear_bf16_manifest(), selected_isa());
  return kernel.isa == Isa::scalar ? nullptr : &kernel;
}

// Part `part` of `parts` of [0, count).
Range share(int64_t count, int part, int parts) { return {count * part / parts, count * (part + 1) / parts}; }

}  // namespace

SparseProduct::SparseProduct(const uint8_t* keep, int n, int k)
    : kernel_(select(sparse_linear_manifest(), selected_isa())), bf16_(bf16_kernel()) {
  if (n <= 0 || k <= 0 || n % 4 != 0)
    throw Error(Error::Kind::input, "a weight of 4x1 blocks needs a multiple of 4 rows and at least one column");
  const int groups = n / 4;
  for (int group = 0; group < groups; ++group) {
    begin_.push_back(static_cast<int32_t>(column_.size()));
    const uint8_t* rows = keep + static_cast<int64_t>(group) * 4 * k;
    for (int column = 0; column < k; ++column)
      if ((rows[column] | rows[k + column] | rows[2 * int64_t{k} + column] | rows[3 * int64_t{k} + column]) != 0)
        column_.push_back(column);
  }
  begin_.push_back(static_cast<int32_t>(column_.size()));
  for (int group = 0; group < groups; ++group) {
    pair_begin_.push_back(static_cast<int32_t>(pair_columns_.size() / 2));
    for (int32_t block = begin_[group]; block < begin_[group + 1]; ++block) pair_columns_.push_back(column_[block]);
    if (pair_columns_.size() % 2 != 0) pair_columns_.push_back(pair_columns_.back());
  }
  pair_begin_.push_back(static_cast<int32_t>(pair_columns_.size() / 2));
  pattern_ = {n, k, begin_.data(), column_.data()};
  pairs_ = {n, k, pair_begin_.data(), pair_columns_.data()};
}

// Calls body(first row, column, first value) for the blocks of the rows of one thread.
template <class Body>
void SparseProduct::for_each_block(int thread, int threads, Body body) const {
  const Range groups = share(pattern_.n / 4, thread, threads);
  for (int64_t group = groups.begin; group < groups.end; ++group)
    for (int32_t block = begin_[group]; block < begin_[group + 1]; ++block)
      body(4 * group, column_[block], 4 * int64_t{block});
}

void SparseProduct::gather(Rows weight, float* values, int threads) const {
  const auto take = [&](const auto* rows, auto widen) {
    run_on_team(threads, [&](int thread) {
      for_each_block(thread, threads, [&](int64_t row, int32_t column, int64_t at) {
        for (int r = 0; r < 4; ++r) values[at + r] = widen(rows[(row + r) * pattern_.k + column]);
      });
    });
  };
  if (weight.bf16)
    take(static_cast<const uint16_t*>(weight.data), f32_of);
  else
    take(static_cast<const float*>(weight.data), [](float value) { return value; });
}

void SparseProduct::scatter(const float* values, Rows weight, int threads) const {
  const auto put = [&](auto* rows, auto narrow) {
    run_on_team(threads, [&](int thread) {
      const Range groups = share(pattern_.n / 4, thread, threads);
      std::fill(rows + groups.begin * 4 * pattern_.k, rows + groups.end * 4 * pattern_.k, narrow(0.0f));
      for_each_block(thread, threads, [&](int64_t row, int32_t column, int64_t at) {
        for (int r = 0; r < 4; ++r) rows[(row + r) * pattern_.k + column] = narrow(values[at + r]);
      });
    });
  };
  if (weight.bf16)
    put(static_cast<uint16_t*>(weight.data), [](float value) { return static_cast<uint16_t>(bf16_of(value)); });
  else
    put(static_cast<float*>(weight.data), [](float value) { return value; });
}

void SparseProduct::pack_pairs(const float* values, uint32_t* packed, int threads) const {
  run_on_team(threads, [&](int thread) {
    const Range groups = share(pattern_.n / 4, thread, threads);
    for (int64_t group = groups.begin; group < groups.end; ++group) {
      uint32_t* out = packed + 4 * int64_t{pair_begin_[group]};
      for (int32_t block = begin_[group]; block < begin_[group + 1]; block += 2) {
        const float* first = values + 4 * int64_t{block};
        const bool alone = block + 1 == begin_[group + 1];
        for (int r = 0; r < 4; ++r) *out++ = bf16_pair(first[r], alone ? 0.0f : first[4 + r]);
      }
    }
  });
}

void SparseProduct::pack_rows(const float* values, uint32_t* packed, int threads) const {
  run_on_team(threads, [&](int thread) {
    const Range pairs = share(2 * blocks(), thread, threads);
    for (int64_t i = pairs.begin; i < pairs.end; ++i) packed[i] = bf16_pair(values[2 * i], values[2 * i + 1]);
  });
}

void SparseProduct::forward(const float* values, const float* bias, Rows x, int64_t tokens, Rows y, int threads) const {
  const bool bf16 = y.bf16 && bf16_ != nullptr;
  const int out_rows = std::min(bf16 ? kOutRowsBf16 : kernel_.forward_rows, pattern_.n);
  const int64_t lanes = kernel_.forward_bytes / int64_t{sizeof(float)} / (pattern_.k + out_rows) - 16;
  const int64_t most = bf16 ? kMaxWidth : std::clamp<int64_t>(lanes / kLanes * kLanes, kLanes, kMaxWidth);
  const Panels panels(tokens, threads, most);
  const Workspace workspace(threads, pattern_.k, 0, out_rows, panels.width(), 0, 2 * pair_columns_.size());
  if (bf16) pack_pairs(values, workspace.weights(), threads);
  run_on_team(threads, [&](int thread) {
    const Scratch& mine = workspace.of(thread);
    const Panel in = mine.f32(mine.x, panels.width()), out = mine.f32(mine.out, panels.width());
    const Bf16Panel in_bf16 = mine.bf16(mine.x, panels.width());
    panels.of_thread(thread, [&](int64_t first, int count) {
      if (bf16)
        load(*bf16_, x, first, count, pattern_.k, in_bf16);
      else
        load(kernel_, x, first, count, pattern_.k, in);
      for (int row = 0; row < pattern_.n; row += out_rows) {
        const int rows = std::min(out_rows, pattern_.n - row), width = lanes_of(count);
        if (bf16)
          bf16_->forward(pairs_, workspace.weights(), bias, in_bf16, width, row / 4, (row + rows) / 4, out);
        else
          kernel_.forward(pattern_, values, bias, in, width, row / 4, (row + rows) / 4, out);
        store(kernel_, out, y, first, count, row, rows, pattern_.n);
      }
    });
  });
}

// Calls body(group, first block, last block) so that columns come range by range, and those of x that a range reads
// stay in L2.
template <class Body>
void SparseProduct::for_each_range(int64_t x_row_bytes, Body body) const {
  const int range = std::max<int>(16, static_cast<int>(kSampledBytes / x_row_bytes));
  std::vector<int32_t> done(begin_.begin(), begin_.end() - 1);
  for (int column = range; column < pattern_.k + range; column += range)
    for (int group = 0; group < pattern_.n / 4; ++group) {
      const int32_t first = done[group];
      int32_t last = first;
      while (last < begin_[group + 1] && column_[last] < column) ++last;
      body(group, first, last);
      done[group] = last;
    }
}

void SparseProduct::backward(const float* values, Rows x, Rows dy, int64_t tokens, Rows dx, float* dvalues,
                             int threads) const {
  const bool bf16 = dy.bf16 && bf16_ != nullptr;
  const Panels panels(tokens, threads, kMaxWidth);
  const size_t sums = column_.size() * 4;
  const Workspace workspace(threads, bf16 ? pattern_.k : 0, pattern_.n, pattern_.k, panels.width(), sums, sums / 2);
  if (bf16) pack_rows(values, workspace.weights(), threads);
  run_on_team(threads, [&](int thread) {
    const Scratch& mine = workspace.of(thread);
    const Panel channels = mine.f32(mine.out, panels.width());  // of dx, then of x in f32
    float* const dw = mine.dw.as<float>();
    std::memset(dw, 0, sums * sizeof(float));
    panels.of_thread(thread, [&](int64_t first, int count) {
      const int width = lanes_of(count);
      if (bf16) {
        const Bf16Panel gradient = mine.bf16(mine.y, panels.width()), in = mine.bf16(mine.x, panels.width());
        load(*bf16_, dy, first, count, pattern_.n, gradient);
        bf16_->transposed(pattern_, workspace.weights(), gradient, width, channels);
        store(kernel_, channels, dx, first, count, 0, pattern_.k, pattern_.k);
        load(*bf16_, x, first, count, pattern_.k, in);
        for_each_range(in.stride * int64_t{sizeof(uint16_t)}, [&](int group, int32_t begin, int32_t end) {
          bf16_->sampled(pattern_.column + begin, end - begin, in, gradient, width, group, dw + 4 * int64_t{begin});
        });
      } else {
        const Panel gradient = mine.f32(mine.y, panels.width());
        load(kernel_, dy, first, count, pattern_.n, gradient);
        kernel_.transposed(pattern_, values, gradient, width, channels);
        store(kernel_, channels, dx, first, count, 0, pattern_.k, pattern_.k);
        load(kernel_, x, first, count, pattern_.k, channels);
        for_each_range(channels.stride * int64_t{sizeof(float)}, [&](int group, int32_t begin, int32_t end) {
          kernel_.sampled(pattern_, channels, gradient, width, group, begin, end, dw);
        });
      }
    });
  });
  run_on_team(threads, [&](int thread) {
    const Range part = share(static_cast<int64_t>(sums), thread, threads);
    for (int64_t i = part.begin; i < part.end; ++i) {
      float sum = workspace.of(0).dw.as<float>()[i];
      for (int other = 1; other < threads; ++other) sum += workspace.of(other).dw.as<float>()[i];
      dvalues[i] = sum;
    }
  });
}

}  // namespace fastcpu
