// Times every variant of gemm_u8s8, spmm_u8s8 and gemm_f32 that this CPU runs, on one core, and compares it with the
// peak of the same core and tier (kernels/peak) in the same run. The answers of all variants of a case are compared
// before anything is timed: those of the two u8s8 kernels with each other, those of gemm_f32 among themselves.
//
//   fastcpu_bench_kernels SHAPES.txt... [--tokens 8,128] [--sparsity 80] [--kernel NAME] [--store u8|f32|table]
//                         [--milliseconds 100] [--json FILE]
//
// Work is what a kernel has to do: 2 N K tokens operations, times the share of nonzero blocks for spmm_u8s8. Padding,
// zero blocks and the interleaving of dense tiles are not counted but take time. All tiles are computed in order, again
// and again; a time is the sum over tiles of each tile's best time, so that a neighbour who takes the core for a while
// does not spoil a long case.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/manifest.h"
#include "base/tile.h"
#include "gemm_f32/gemm_f32.h"
#include "gemm_u8s8/gemm_u8s8.h"
#include "peak/peak.h"
#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<std::string> shape_files;
  std::vector<int> tokens = {8, 16, 32, 64, 128, 1024};
  std::vector<int> sparsities = {80};
  std::string kernel;
  Store store = Store::u8;
  double milliseconds = 100;
  std::string json;
};

struct Layer {
  std::string name;
  int n, k;
};

struct Result {
  std::string kernel;
  Layer layer;
  int tokens, sparsity;
  double seconds, operations, peak;
};

// ---- the peak of one core ----

// Seconds of one call of `work`: the best of as many as fit into the time.
template <class Work>
double best_seconds(double milliseconds, Work work) {
  double best = 1e30;
  const Clock::time_point stop = Clock::now() + std::chrono::microseconds(static_cast<int64_t>(milliseconds * 1000));
  for (int i = 0; i < 5 || Clock::now() < stop; ++i) {
    const Clock::time_point start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

// Operations per second of one core with the multiplications of a tier.
double peak_rate(Isa isa, bool f32) {
  const PeakKernel& kernel = select(peak_manifest(), isa);
  double operations = 0;
  const double seconds = best_seconds(10, [&] { operations = f32 ? kernel.f32(2000) : kernel.int8(2000); });
  return operations / seconds;
}

// ---- one case ----

struct Case {
  Layer layer;
  int tokens, sparsity;
  std::vector<int8_t> weights;  // [n][k]
  std::vector<int8_t> values;
  std::vector<uint16_t> index;
  std::vector<uint32_t> offsets;
  std::vector<int32_t> init;
  std::vector<float> mul, add;
  std::vector<uint8_t> table;
  std::vector<float> weights_f32;  // [n][k]
  std::unique_ptr<Arena> memory;   // of tiles and packed weights
  uint8_t* x;                      // u8 tiles of k channels
  float* x_f32;                    // f32 tiles of k channels

  Blocks4x1 blocks() const { return {layer.n, layer.k, values.data(), index.data(), offsets.data()}; }
};

// Normally distributed weights, quantized per row. Exactly `sparsity` percent of all blocks are zero, those of the
// smallest magnitude: groups have uneven numbers of blocks.
Case make_case(const Layer& layer, int tokens, int sparsity) {
  Case c{layer, tokens, sparsity, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::make_unique<Arena>(), nullptr, nullptr};
  std::mt19937 random(1);
  const size_t groups = static_cast<size_t>(layer.n) / 4;
  const size_t k = static_cast<size_t>(layer.k);
  std::vector<float> dense(static_cast<size_t>(layer.n) * k);
  std::normal_distribution<float> normal;
  for (float& weight : dense) weight = normal(random);
  std::vector<float> norm(groups * k);
  for (size_t b = 0; b < norm.size(); ++b)
    for (size_t r = 0; r < 4; ++r) norm[b] += std::abs(dense[(b / k * 4 + r) * k + b % k]);
  std::vector<size_t> by_norm(norm.size());
  std::iota(by_norm.begin(), by_norm.end(), size_t{0});
  const int64_t pruned = static_cast<int64_t>(norm.size() * static_cast<size_t>(sparsity) / 100);
  std::nth_element(by_norm.begin(), by_norm.begin() + pruned, by_norm.end(),
                   [&](size_t a, size_t b) { return norm[a] < norm[b]; });
  std::vector<char> kept(norm.size(), 1);
  for (int64_t i = 0; i < pruned; ++i) kept[by_norm[static_cast<size_t>(i)]] = 0;
  c.weights.assign(dense.size(), 0);
  c.offsets.push_back(0);
  for (size_t g = 0; g < groups; ++g) {
    float largest[4] = {};
    for (size_t r = 0; r < 4; ++r)
      for (size_t i = 0; i < k; ++i)
        if (kept[g * k + i]) largest[r] = std::max(largest[r], std::abs(dense[(4 * g + r) * k + i]));
    for (size_t i = 0; i < k; ++i) {
      if (!kept[g * k + i]) continue;
      c.index.push_back(static_cast<uint16_t>(i));
      for (size_t r = 0; r < 4; ++r) {
        c.values.push_back(static_cast<int8_t>(std::lround(dense[(4 * g + r) * k + i] / largest[r] * 127)));
        c.weights[(4 * g + r) * k + i] = c.values.back();
      }
    }
    c.offsets.push_back(static_cast<uint32_t>(c.index.size()));
  }
  const size_t inputs = static_cast<size_t>(channel_stride(layer.k) * padded_tokens(tokens));
  c.x = c.memory->take(inputs);
  for (size_t i = 0; i < inputs; ++i) c.x[i] = static_cast<uint8_t>(random());
  c.x_f32 = reinterpret_cast<float*>(c.memory->take(inputs * sizeof(float)));
  for (size_t i = 0; i < inputs; ++i) c.x_f32[i] = static_cast<float>(c.x[i]) / 128 - 1;
  c.weights_f32.assign(c.weights.begin(), c.weights.end());
  for (int i = 0; i < layer.n; ++i) {
    c.init.push_back(static_cast<int32_t>(random() % 1000));
    c.mul.push_back(1e-4F);
    c.add.push_back(128);
  }
  for (int i = 0; i < 256; ++i) c.table.push_back(static_cast<uint8_t>(random()));
  return c;
}

// A variant with its packed weights.
struct Variant {
  std::string name;
  Isa isa;
  bool f32;                                                 // its arithmetic
  size_t element;                                           // bytes of an output
  double operations;                                        // of a call for all tiles
  std::function<void(const Tile& tile, uint8_t* out)> run;  // out: of the first tile

  // Computes all tiles and lowers best[i] to the seconds that tile i took, if it took less.
  void operator()(int tokens, uint8_t* out, std::vector<double>& best) const {
    best.resize(static_cast<size_t>(tile_count(tokens)), 1e30);
    for (int64_t i = 0; i < tile_count(tokens); ++i) {
      const Tile tile = tile_at(tokens, i);
      const Clock::time_point start = Clock::now();
      run(tile, out);
      double& seconds = best[static_cast<size_t>(i)];
      seconds = std::min(seconds, std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
};

// How a u8s8 kernel runs a tile of a case; `prepare` may be nullptr. The case must outlive the result.
std::function<void(const Tile&, uint8_t*)> run_u8s8(const Case& c, Store store, const uint8_t* weights,
                                                    uint8_t* scratch, decltype(GemmU8S8Kernel::prepare) prepare,
                                                    decltype(GemmU8S8Kernel::run) run) {
  return [&c, store, weights, scratch, prepare, run](const Tile& tile, uint8_t* out) {
    GemmU8S8Args args{};
    args.x = c.x + tile.begin * channel_stride(c.layer.k);
    args.k = c.layer.k;
    args.width = tile.width;
    args.tokens = static_cast<int>(std::min<int64_t>(tile.width, c.tokens - tile.begin));
    args.weights = weights;
    args.n_end = c.layer.n;
    args.epilogue = {c.init.data(), c.mul.data(), c.add.data(), nullptr, c.table.data(), store};
    args.out = out + tile.begin * channel_stride(c.layer.n) * (store == Store::f32 ? 4 : 1);
    args.scratch = scratch;
    if (tile.begin + 2 * kTileWidth <= c.tokens) args.next = args.x + tile.width * channel_stride(c.layer.k);
    if (prepare != nullptr) prepare(args.x, args.k, args.width, args.tokens, args.scratch);
    run(args);
  };
}

std::function<void(const Tile&, uint8_t*)> run_f32(const Case& c, const uint8_t* weights,
                                                   decltype(GemmF32Kernel::run) run) {
  return [&c, weights, run](const Tile& tile, uint8_t* out) {
    GemmF32Args args{};
    args.x = c.x_f32 + tile.begin * channel_stride(c.layer.k);
    args.k = c.layer.k;
    args.width = tile.width;
    args.weights = weights;
    args.bias = c.add.data();
    args.n_end = c.layer.n;
    args.activation = Activation::none;
    args.out = reinterpret_cast<float*>(out) + tile.begin * channel_stride(c.layer.n);
    run(args);
  };
}

// The variants whose names contain `filter`; u8s8 first.
std::vector<Variant> pack_all(const Case& c, Store store, const std::string& filter) {
  std::vector<Variant> all;
  const auto wanted = [&](const char* name) { return std::string(name).find(filter) != std::string::npos; };
  const auto [n, k] = std::make_pair(c.layer.n, c.layer.k);
  const size_t element = store == Store::f32 ? sizeof(float) : 1;
  const double dense_operations = 2.0 * n * k * c.tokens;
  uint8_t* weights = nullptr;
  const TakeMemory take = [&](size_t bytes) { return weights = c.memory->take(bytes); };
  for (const GemmU8S8Kernel* kernel : runnable(gemm_u8s8_manifest())) {
    if (!wanted(kernel->name)) continue;
    kernel->pack(n, k, c.weights.data(), take);
    all.push_back(
        {kernel->name, kernel->isa, false, element, dense_operations,
         run_u8s8(c, store, weights, c.memory->take(kernel->scratch_bytes(k)), kernel->prepare, kernel->run)});
  }
  for (const SpmmU8S8Kernel* kernel : runnable(spmm_u8s8_manifest())) {
    if (!wanted(kernel->name)) continue;
    kernel->pack(c.blocks(), take);
    all.push_back({kernel->name, kernel->isa, false, element, 2.0 * static_cast<double>(c.values.size()) * c.tokens,
                   run_u8s8(c, store, weights, nullptr, nullptr, kernel->run)});
  }
  for (const GemmF32Kernel* kernel : runnable(gemm_f32_manifest())) {
    if (!wanted(kernel->name)) continue;
    weights = c.memory->take(kernel->packed_bytes(n, k));
    kernel->pack(n, k, c.weights_f32.data(), weights);
    all.push_back({kernel->name, kernel->isa, true, sizeof(float), dense_operations, run_f32(c, weights, kernel->run)});
  }
  return all;
}

// Whether two outputs are the same where lanes carry meaning.
bool same_answers(const Case& c, size_t element, const uint8_t* a, const uint8_t* b) {
  const int64_t rows = channel_stride(c.layer.n);
  for (int64_t i = 0; i < tile_count(c.tokens); ++i) {
    const Tile tile = tile_at(c.tokens, i);
    const auto bytes = static_cast<size_t>(std::min<int64_t>(tile.width, c.tokens - tile.begin)) * element;
    for (int64_t row = 0; row < rows; ++row) {
      const size_t offset = static_cast<size_t>(tile.begin * rows + row * tile.width) * element;
      if (std::memcmp(a + offset, b + offset, bytes) != 0) return false;
    }
  }
  return true;
}

std::vector<Result> measure(const Case& c, const Options& options) {
  const std::vector<Variant> variants = pack_all(c, options.store, options.kernel);
  const size_t outputs = static_cast<size_t>(channel_stride(c.layer.n) * padded_tokens(c.tokens));
  const AlignedBuffer out(outputs * sizeof(float)), expected(outputs * sizeof(float));
  std::vector<std::vector<double>> best(variants.size());
  const Variant* reference = nullptr;  // its answers are the expected ones
  for (size_t i = 0; i < variants.size(); ++i) {
    const Variant& variant = variants[i];
    if (reference == nullptr || reference->f32 != variant.f32) {
      reference = &variant;
      variant(c.tokens, expected.data(), best[i]);
      continue;
    }
    variant(c.tokens, out.data(), best[i]);
    if (!same_answers(c, variant.element, expected.data(), out.data())) {
      std::fprintf(stderr, "%s and %s differ on %s\n", variant.name.c_str(), reference->name.c_str(),
                   c.layer.name.c_str());
      std::exit(EXIT_FAILURE);
    }
  }
  std::vector<Result> results;
  for (size_t i = 0; i < variants.size(); ++i) {
    const Variant& variant = variants[i];
    const double peak = peak_rate(variant.isa, variant.f32);
    best_seconds(options.milliseconds, [&] { variant(c.tokens, out.data(), best[i]); });
    results.push_back({variant.name, c.layer, c.tokens, c.sparsity,
                       std::accumulate(best[i].begin(), best[i].end(), 0.0), variant.operations,
                       std::max(peak, peak_rate(variant.isa, variant.f32))});
  }
  return results;
}

// ---- input and output ----

std::vector<int> parse_list(const std::string& text) {
  std::vector<int> values;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) values.push_back(std::atoi(item.c_str()));
  return values;
}

std::vector<Layer> read_shapes(const std::string& path) {
  std::ifstream file(path);
  std::vector<Layer> layers;
  for (std::string line; std::getline(file, line);) {
    std::stringstream stream(line);
    Layer layer;
    if (line.rfind('#', 0) != 0 && stream >> layer.name >> layer.n >> layer.k) layers.push_back(layer);
  }
  const bool blocks = std::all_of(layers.begin(), layers.end(), [](const Layer& layer) { return layer.n % 4 == 0; });
  if (layers.empty() || !blocks) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), blocks ? "no shapes" : "an N is not a multiple of 4");
    std::exit(EXIT_FAILURE);
  }
  return layers;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--", 0) != 0) {
      options.shape_files.push_back(argument);
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (argument == "--tokens") {
      options.tokens = parse_list(value);
    } else if (argument == "--sparsity") {
      options.sparsities = parse_list(value);
    } else if (argument == "--kernel") {
      options.kernel = value;
    } else if (argument == "--store" && (value == "u8" || value == "f32" || value == "table")) {
      options.store = value == "u8" ? Store::u8 : value == "f32" ? Store::f32 : Store::table;
    } else if (argument == "--milliseconds") {
      options.milliseconds = std::atof(value.c_str());
    } else if (argument == "--json") {
      options.json = value;
    } else {
      std::fprintf(stderr, "unknown option: %s %s\n", argument.c_str(), value.c_str());
      std::exit(EXIT_FAILURE);
    }
  }
  if (options.shape_files.empty()) {
    std::fprintf(stderr, "usage: fastcpu_bench_kernels SHAPES.txt... [options, see main.cc]\n");
    std::exit(EXIT_FAILURE);
  }
  return options;
}

void print(const Result& r) {
  const double rate = r.operations / r.seconds;
  const double dense = 2.0 * r.layer.n * r.layer.k * r.tokens / r.seconds;
  std::printf("%-22s %-8s %5d %5d %6d %4d%% %10.1f %7.0f %5.1f%% %8.0f\n", r.kernel.c_str(), r.layer.name.c_str(),
              r.layer.n, r.layer.k, r.tokens, r.sparsity, r.seconds * 1e6, rate / 1e9, 100 * rate / r.peak,
              dense / 1e9);
}

void write_json(const std::string& path, const std::vector<Result>& results) {
  std::ofstream file(path);
  file << "[\n";
  for (size_t i = 0; i < results.size(); ++i) {
    const Result& r = results[i];
    file << "  {\"kernel\": \"" << r.kernel << "\", \"layer\": \"" << r.layer.name << "\", \"n\": " << r.layer.n
         << ", \"k\": " << r.layer.k << ", \"tokens\": " << r.tokens << ", \"sparsity\": " << r.sparsity
         << ", \"seconds\": " << r.seconds << ", \"operations\": " << r.operations << ", \"peak\": " << r.peak << "}"
         << (i + 1 < results.size() ? ",\n" : "\n");
  }
  file << "]\n";
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  std::printf("%-22s %-8s %5s %5s %6s %5s %10s %7s %6s %8s\n", "kernel", "layer", "N", "K", "tokens", "zeros", "us",
              "GOPS", "peak", "as dense");
  std::vector<Result> results;
  for (const std::string& path : options.shape_files)
    for (const Layer& layer : read_shapes(path))
      for (const int sparsity : options.sparsities)
        for (const int tokens : options.tokens)
          for (const Result& result : measure(make_case(layer, tokens, sparsity), options)) {
            print(result);
            std::fflush(stdout);
            results.push_back(result);
          }
  if (!options.json.empty()) write_json(options.json, results);
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace fastcpu

int main(int argc, char** argv) { return fastcpu::run(argc, argv); }
