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

// Output channels that are computed before they are written back as rows: their panel stays in L1, and a row of them is
// at least a cache line.
constexpr int kOutRows = 32;
constexpr int64_t kMaxWidth = 256;
// How much of x products with dy read again and again; it stays in L2.
constexpr int64_t kSampledBytes = 400 << 10;

constexpr int64_t stride_of(int width) { return width + 16; }  // rows of a power of two would share few sets of a cache

// Tokens [begin, end) of one panel.
struct Range {
  int64_t begin, end;
};

// Cuts tokens into panels, equally many for each thread, of about the same width.
class Panels {
 public:
  Panels(int64_t tokens, int threads) : tokens_(tokens) {
    const int64_t least = (panel_width(tokens) + kMaxWidth - 1) / kMaxWidth;
    per_thread_ = std::max<int64_t>(1, (least + threads - 1) / threads);
    width_ = std::max<int64_t>(16, panel_width((tokens + per_thread_ * threads - 1) / (per_thread_ * threads)));
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

void load(const SparseLinearKernel& kernel, Rows rows, int64_t first, int tokens, int channels, Panel out) {
  const int width = static_cast<int>(panel_width(tokens));
  if (rows.bf16)
    kernel.load_bf16(static_cast<const uint16_t*>(rows.data) + first * channels, channels, tokens, channels, width,
                     out);
  else
    kernel.load_f32(static_cast<const float*>(rows.data) + first * channels, channels, tokens, channels, width, out);
}

void store(const SparseLinearKernel& kernel, Panel in, Rows rows, int64_t first, int tokens, int channel, int channels,
           int pitch) {
  const int64_t at = first * pitch + channel;
  if (rows.bf16)
    kernel.store_bf16(in, tokens, channels, pitch, static_cast<uint16_t*>(rows.data) + at);
  else
    kernel.store_f32(in, tokens, channels, pitch, static_cast<float*>(rows.data) + at);
}

// Memory of one thread.
struct Scratch {
  AlignedBuffer x, y, out, dw;
};

// One for all products, so that it stays in the caches; taken for a whole call.
class Workspace {
 public:
  Workspace(int threads, int rows_x, int rows_y, int width, size_t sums) : lock_(mutex) {
    if (static_cast<int>(scratch.size()) < threads) scratch.resize(static_cast<size_t>(threads));
    const size_t row = static_cast<size_t>(stride_of(width)) * sizeof(float);
    for (int thread = 0; thread < threads; ++thread) {
      Scratch& each = of(thread);
      each.x.reserve(static_cast<size_t>(rows_x) * row);
      each.y.reserve(static_cast<size_t>(rows_y) * row);
      each.out.reserve(kOutRows * row);
      each.dw.reserve(sums * sizeof(float));
    }
  }
  Scratch& of(int thread) const { return scratch[static_cast<size_t>(thread)]; }

 private:
  static inline std::mutex mutex;
  static inline std::vector<Scratch> scratch;
  const std::lock_guard<std::mutex> lock_;
};

// Part `part` of `parts` of [0, count).
Range share(int64_t count, int part, int parts) { return {count * part / parts, count * (part + 1) / parts}; }

}  // namespace

SparseProduct::SparseProduct(const uint8_t* keep, int n, int k)
    : kernel_(select(sparse_linear_manifest(), selected_isa())) {
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
  pattern_ = {n, k, begin_.data(), column_.data()};
}

void SparseProduct::gather(const float* weight, float* values, int threads) const {
  run_on_team(threads, [&](int thread) {
    const Range groups = share(pattern_.n / 4, thread, threads);
    for (int64_t group = groups.begin; group < groups.end; ++group) {
      const float* rows = weight + group * 4 * pattern_.k;
      for (int32_t block = begin_[group]; block < begin_[group + 1]; ++block)
        for (int r = 0; r < 4; ++r) values[4 * int64_t{block} + r] = rows[int64_t{r} * pattern_.k + column_[block]];
    }
  });
}

void SparseProduct::forward(const float* values, const float* bias, Rows x, int64_t tokens, Rows y, int threads) const {
  const Panels panels(tokens, threads);
  const Workspace workspace(threads, pattern_.k, 0, panels.width(), 0);
  const int64_t stride = stride_of(panels.width());
  run_on_team(threads, [&](int thread) {
    const Scratch& mine = workspace.of(thread);
    const Panel in{mine.x.as<float>(), stride};
    const Panel out{mine.out.as<float>(), stride};
    panels.of_thread(thread, [&](int64_t first, int count) {
      load(kernel_, x, first, count, pattern_.k, in);
      for (int row = 0; row < pattern_.n; row += kOutRows) {
        const int rows = std::min(kOutRows, pattern_.n - row);
        kernel_.forward(pattern_, values, bias, in, static_cast<int>(panel_width(count)), row / 4, (row + rows) / 4,
                        out);
        store(kernel_, out, y, first, count, row, rows, pattern_.n);
      }
    });
  });
}

void SparseProduct::sample(Panel x, Panel dy, int width, float* dw) const {
  const int range = std::max<int>(16, static_cast<int>(kSampledBytes / (x.stride * int64_t{sizeof(float)})));
  std::vector<int32_t> done(begin_.begin(), begin_.end() - 1);
  for (int column = range; column < pattern_.k + range; column += range)
    for (int group = 0; group < pattern_.n / 4; ++group) {
      const int32_t first = done[group];
      int32_t last = first;
      while (last < begin_[group + 1] && column_[last] < column) ++last;
      kernel_.sampled(pattern_, x, dy, width, group, first, last, dw);
      done[group] = last;
    }
}

void SparseProduct::backward(const float* values, Rows x, Rows dy, int64_t tokens, Rows dx, float* dweight,
                             int threads) const {
  const Panels panels(tokens, threads);
  const Workspace workspace(threads, pattern_.k, pattern_.n, panels.width(), column_.size() * 4);
  const int64_t stride = stride_of(panels.width());
  const size_t count_values = column_.size() * 4;
  run_on_team(threads, [&](int thread) {
    const Scratch& mine = workspace.of(thread);
    const Panel channels{mine.x.as<float>(), stride};  // of dx, then of x
    const Panel gradient{mine.y.as<float>(), stride};
    std::memset(mine.dw.data(), 0, count_values * sizeof(float));
    panels.of_thread(thread, [&](int64_t first, int count) {
      const int width = static_cast<int>(panel_width(count));
      load(kernel_, dy, first, count, pattern_.n, gradient);
      kernel_.transposed(pattern_, values, gradient, width, channels);
      store(kernel_, channels, dx, first, count, 0, pattern_.k, pattern_.k);
      load(kernel_, x, first, count, pattern_.k, channels);
      sample(channels, gradient, width, mine.dw.as<float>());
    });
  });
  run_on_team(threads, [&](int thread) {
    const Range groups = share(pattern_.n / 4, thread, threads);
    for (int64_t group = groups.begin; group < groups.end; ++group) {
      float* rows = dweight + group * 4 * pattern_.k;
      std::memset(rows, 0, static_cast<size_t>(pattern_.k) * 4 * sizeof(float));
      for (int32_t block = begin_[group]; block < begin_[group + 1]; ++block)
        for (int r = 0; r < 4; ++r) {
          const int64_t at = 4 * int64_t{block} + r;
          float sum = workspace.of(0).dw.as<float>()[at];
          for (int other = 1; other < threads; ++other) sum += workspace.of(other).dw.as<float>()[at];
          rows[int64_t{r} * pattern_.k + column_[block]] = sum;
        }
    }
  });
}

}  // namespace fastcpu
