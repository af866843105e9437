// Cases of quantized linears and what docs/numerics.md says about their results, for the tests of gemm_u8s8 and
// spmm_u8s8.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/tile.h"
#include "gemm_u8s8/gemm_u8s8.h"
#include "oracle.h"
#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu::test {

// Weights: random ones; -127 and 127 by row; bell-shaped as those of trained models; or about half and all of 127.
// Inputs: random; 255 with weights by row; and with the last two, 0 and 255 such that token t has the largest or the
// smallest sum of row t / 2 that there is, and so have all parts of that sum.
enum class Fill { random, extreme, bell, limits };
enum class Output { f32, f32_scaled, u8, table };
constexpr Output kOutputs[] = {Output::f32, Output::f32_scaled, Output::u8, Output::table};

inline const char* output_name(Output output) {
  constexpr const char* names[] = {"f32", "f32 with token scales", "u8", "table"};
  return names[static_cast<int>(output)];
}

// One tile times one weight matrix, with the exact sums.
struct LinearCase {
  LinearCase(int n_, int k_, int width_) : n(n_), k(k_), width(width_), rows(channel_stride(n_)) {}

  int n, k, width;
  int64_t rows;                 // stride(n)
  std::vector<int8_t> weights;  // [n][k]
  std::vector<int8_t> values;   // the same as 4x1 blocks, if n is a multiple of 4
  std::vector<uint16_t> index;
  std::vector<uint32_t> offsets;
  std::vector<uint8_t> table;
  std::vector<int32_t> init;
  std::vector<float> mul, add, token_scale;
  std::vector<int64_t> sums;  // [rows][width]
  Guarded<uint8_t> x{static_cast<size_t>(channel_stride(k) * width)};

  Blocks4x1 blocks() const { return {n, k, values.data(), index.data(), offsets.data()}; }

  QuantEpilogue epilogue(Output output) const {
    const Store store = output == Output::u8 ? Store::u8 : output == Output::table ? Store::table : Store::f32;
    return {init.data(),
            mul.data(),
            add.data(),
            output == Output::f32_scaled ? token_scale.data() : nullptr,
            output == Output::table ? table.data() : nullptr,
            store};
  }

  float expected_f32(Output output, int64_t row, int64_t t) const {
    float y = static_cast<float>(static_cast<int32_t>(sums[row * width + t])) * mul[row];
    if (output == Output::f32_scaled) y = y * token_scale[t];
    return y + add[row];
  }
  uint8_t expected_u8(Output output, int64_t row, int64_t t) const {
    float y = expected_f32(output, row, t);
    y = y < 0.0F ? 0.0F : y;
    y = y > 255.0F ? 255.0F : y;
    const uint8_t q = static_cast<uint8_t>(std::nearbyint(y));
    return output == Output::table ? table[q] : q;
  }
};

// density: the probability that a 4x1 block is kept, group by group different, so that masks are uneven: groups are
// empty and full, too. 1 keeps every block, 0 none. Where there are block counts, they decide instead: group g keeps
// exactly block_counts[g % size] blocks, at random places.
inline int8_t random_weight(Fill fill, int row, Random& random) {
  constexpr int limits[] = {0, 1, 62, 63, 64, 65, 126, 127};
  switch (fill) {
    case Fill::random:
      return static_cast<int8_t>(random.integer(-127, 127));
    case Fill::extreme:
      return row % 2 == 0 ? int8_t{127} : int8_t{-127};
    case Fill::limits:
      return static_cast<int8_t>(limits[random.below(8)] * (random.below(4) == 0 ? -1 : 1));
    case Fill::bell:
      break;
  }
  int sum = 0;  // of 12 numbers from -36 to 36: a standard deviation of 73
  for (int i = 0; i < 12; ++i) sum += random.integer(-36, 36);
  return static_cast<int8_t>(std::max(-127, std::min(127, sum / 2)));
}

inline LinearCase make_linear(int n, int k, int width, double density, Fill fill, uint64_t seed,
                              const std::vector<int>& block_counts = {}) {
  LinearCase c(n, k, width);
  Random random(seed + static_cast<uint64_t>(n) * 1000003 + static_cast<uint64_t>(k) * 101 +
                static_cast<uint64_t>(width));
  c.weights.assign(static_cast<size_t>(n) * static_cast<size_t>(k), 0);
  c.offsets.push_back(0);
  for (int g = 0; g < (n + 3) / 4; ++g) {
    const uint64_t uneven = random.below(5);  // 0: an empty group, 4: a full one
    double kept = density <= 0 || density >= 1 ? density : uneven == 0 ? 0 : uneven == 4 ? 1 : density;
    int missing = block_counts.empty() ? 0 : block_counts[static_cast<size_t>(g) % block_counts.size()];
    for (int i = 0; i < k; ++i) {
      if (!block_counts.empty()) kept = static_cast<double>(missing) / (k - i);
      if (random.real(0, 1) >= kept) continue;
      --missing;
      c.index.push_back(static_cast<uint16_t>(i));
      for (int r = 4 * g; r < 4 * g + 4; ++r) {
        const int8_t value = random_weight(fill, r, random);
        c.values.push_back(value);
        if (r < n) c.weights[static_cast<size_t>(r) * static_cast<size_t>(k) + static_cast<size_t>(i)] = value;
      }
    }
    c.offsets.push_back(static_cast<uint32_t>(c.index.size()));
  }
  // Rows past k keep the guard byte: they may hold anything.
  for (int64_t i = 0; i < static_cast<int64_t>(k) * width; ++i) {
    const int row = static_cast<int>(i % width / 2) % n, sign = i % 2 == 0 ? 1 : -1;
    const int weight = c.weights[static_cast<size_t>(row) * static_cast<size_t>(k) + static_cast<size_t>(i / width)];
    c.x[static_cast<size_t>(i)] = fill == Fill::random    ? static_cast<uint8_t>(random.below(256))
                                  : fill == Fill::extreme ? uint8_t{255}
                                                          : static_cast<uint8_t>(weight * sign > 0 ? 255 : 0);
  }

  for (int i = 0; i < 256; ++i) c.table.push_back(static_cast<uint8_t>(random.below(256)));
  for (int t = 0; t < width; ++t) c.token_scale.push_back(random.real(0.001F, 2.0F));
  const float spread = 60.0F / (73.0F * 147.0F * std::sqrt(static_cast<float>(k)));
  for (int64_t r = 0; r < c.rows; ++r) {
    c.init.push_back(fill == Fill::random ? random.integer(-100000, 100000) : 0);
    // Usual values, ties of the rounding, results outside s32 and f32, and a constant.
    const uint64_t kind = random.below(8);
    c.mul.push_back(kind == 0   ? 0.5F
                    : kind == 1 ? 1e30F
                    : kind == 2 ? 3e38F
                    : kind == 3 ? 0.0F
                                : spread * random.real(-2, 2));
    c.add.push_back(kind == 0 ? 0.0F : random.real(-20, 275));
    if (kind == 0) c.init.back() = random.integer(-100, 600);
  }
  c.sums.assign(static_cast<size_t>(c.rows * width), 0);
  for (int64_t r = 0; r < c.rows; ++r) {
    int64_t* sum = &c.sums[static_cast<size_t>(r * width)];
    for (int t = 0; t < width; ++t) sum[t] = c.init[static_cast<size_t>(r)];
    if (r >= n) continue;
    for (int i = 0; i < k; ++i) {
      const int64_t w = c.weights[static_cast<size_t>(r) * static_cast<size_t>(k) + static_cast<size_t>(i)];
      if (w == 0) continue;
      for (int t = 0; t < width; ++t)
        sum[t] += w * c.x[static_cast<size_t>(i) * static_cast<size_t>(width) + static_cast<size_t>(t)];
    }
  }
  return c;
}

// The memory that a kernel takes for packed weights.
class PackedWeights {
 public:
  TakeMemory take() {
    return [this](size_t bytes) {
      ++taken_;
      memory_ = std::make_unique<Guarded<uint8_t>>(bytes);
      return memory_->data();
    };
  }
  const void* data() const { return memory_->data(); }
  bool intact() const { return taken_ == 1 && memory_->intact(); }

 private:
  int taken_ = 0;
  std::unique_ptr<Guarded<uint8_t>> memory_;
};

// Runs `run(args)` for all outputs and some row ranges, checks results, rows that are not to be written and guard
// bytes, and adds every result to the digest. `tokens` lanes carry meaning. `kernel` is for messages.
template <class Run>
void check_linear(const LinearCase& c, const char* kernel, Report& report, Digest& digest, int tokens, Run run) {
  const int rows = static_cast<int>(c.rows);
  std::vector<std::pair<int, int>> ranges = {{0, rows}};
  if (rows > 4) ranges.insert(ranges.end(), {{4, rows}, {0, rows - 4}, {rows / 8 * 4, rows / 8 * 4 + 4}, {4, 4}});
  // Five groups in the middle, from every ninth group: they begin and end on groups of all kinds.
  for (int begin = 12; begin + 20 < rows; begin += 36) ranges.emplace_back(begin, begin + 20);
  for (const Output output : kOutputs) {
    const QuantEpilogue epilogue = c.epilogue(output);
    const bool is_f32 = epilogue.store == Store::f32;
    for (const auto& [begin, end] : ranges) {
      const std::string name = std::string(kernel) + ", N " + std::to_string(c.n) + ", K " + std::to_string(c.k) +
                               ", width " + std::to_string(c.width) + ", " + std::to_string(tokens) + " tokens, rows " +
                               std::to_string(begin) + ".." + std::to_string(end) + ", " + output_name(output);
      const size_t element = is_f32 ? sizeof(float) : 1;
      const size_t row_bytes = static_cast<size_t>(c.width) * element;
      Guarded<uint8_t> out(static_cast<size_t>(rows) * row_bytes);
      GemmU8S8Args args{};
      args.x = c.x.data();
      args.k = c.k;
      args.width = c.width;
      args.tokens = tokens;
      args.n_begin = begin;
      args.n_end = end;
      args.epilogue = epilogue;
      args.out = out.data();
      run(args);
      report.check(out.intact(), "%s: wrote outside the output", name.c_str());
      report.check(out.unwritten(0, static_cast<size_t>(begin) * row_bytes) &&
                       out.unwritten(static_cast<size_t>(end) * row_bytes, static_cast<size_t>(rows - end) * row_bytes),
                   "%s: wrote rows outside the range", name.c_str());
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t t = 0; t < tokens; ++t) {
          const uint8_t* got = &out[static_cast<size_t>((r * c.width + t)) * element];
          if (is_f32) {
            const float want = c.expected_f32(output, r, t);
            float value;
            std::memcpy(&value, got, sizeof value);
            if (!report.check(std::memcmp(&want, got, sizeof want) == 0, "%s: row %d token %d is %a, not %a",
                              name.c_str(), static_cast<int>(r), static_cast<int>(t), static_cast<double>(value),
                              static_cast<double>(want)))
              return;
          } else {
            const uint8_t want = c.expected_u8(output, r, t);
            if (!report.check(*got == want, "%s: row %d token %d is %d, not %d", name.c_str(), static_cast<int>(r),
                              static_cast<int>(t), *got, want))
              return;
          }
        }
        digest.add(&out[static_cast<size_t>(r * c.width) * element], static_cast<size_t>(tokens) * element);
      }
    }
  }
}

}  // namespace fastcpu::test
