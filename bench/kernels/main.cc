// Times every variant of gemm_u8s8 and spmm_u8s8 that this CPU runs, on one core, and compares it with the peak of the
// same core in the same run. The answers of all variants of a case are compared before anything is timed.
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
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/manifest.h"
#include "base/tile.h"
#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu {
namespace {

using Clock = std::chrono::steady_clock;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

template <class T>
Buffer<T> allocate(size_t count) {
  const size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
  Buffer<T> buffer(static_cast<T*>(std::aligned_alloc(64, bytes)));
  std::memset(buffer.get(), 0, bytes);
  return buffer;
}

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

#if defined(__x86_64__)
#define REPEAT_12(step) \
  step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
#define CLOBBERS_12 \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14"

// 12 independent accumulators, registers only.
void vnni_burst() {
#define STEP(i) "vpdpbusd %%zmm15, %%zmm14, %%zmm" #i "\n\t"
  for (int i = 0; i < 2000; ++i) asm volatile(REPEAT_12(STEP) REPEAT_12(STEP)::: CLOBBERS_12, "xmm15");
#undef STEP
  asm volatile("vzeroupper");
}

// What an exact u8 x s8 product costs without VNNI: a multiplication of s16 pairs and an addition.
void avx2_burst() {
#define STEP(i) "vpmaddwd %%ymm15, %%ymm15, %%ymm14\n\tvpaddd %%ymm14, %%ymm" #i ", %%ymm" #i "\n\t"
  for (int i = 0; i < 2000; ++i) asm volatile(REPEAT_12(STEP) REPEAT_12(STEP)::: CLOBBERS_12, "xmm15");
#undef STEP
  asm volatile("vzeroupper");
}
#endif

// Operations per second that the multiplications of a tier could do; 0 where none is known.
double peak_of(Isa isa) {
  constexpr double steps = 2000.0 * 24;
#if defined(__x86_64__)
  if (std::strcmp(isa_name(isa), "avx512vnni") == 0) return steps * 128 / best_seconds(10, vnni_burst);
  if (std::strcmp(isa_name(isa), "avx2") == 0) return steps * 32 / best_seconds(10, avx2_burst);
#endif
  (void)isa;
  return 0;
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
  Buffer<uint8_t> x;

  Blocks4x1 blocks() const { return {layer.n, layer.k, values.data(), index.data(), offsets.data()}; }
};

// Exactly `sparsity` percent of all blocks are zero, at random places: groups have uneven numbers of blocks.
Case make_case(const Layer& layer, int tokens, int sparsity) {
  Case c{layer, tokens, sparsity, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  std::mt19937 random(1);
  const size_t groups = static_cast<size_t>(layer.n) / 4;
  const size_t k = static_cast<size_t>(layer.k);
  std::vector<char> kept(groups * k, 1);
  std::fill(kept.begin(), kept.begin() + static_cast<int64_t>(kept.size() * static_cast<size_t>(sparsity) / 100), 0);
  std::shuffle(kept.begin(), kept.end(), random);
  c.weights.assign(static_cast<size_t>(layer.n) * k, 0);
  c.offsets.push_back(0);
  for (size_t g = 0; g < groups; ++g) {
    for (size_t i = 0; i < k; ++i) {
      if (!kept[g * k + i]) continue;
      c.index.push_back(static_cast<uint16_t>(i));
      for (size_t r = 0; r < 4; ++r) {
        c.values.push_back(static_cast<int8_t>(static_cast<int>(random() % 255) - 127));
        c.weights[(4 * g + r) * k + i] = c.values.back();
      }
    }
    c.offsets.push_back(static_cast<uint32_t>(c.index.size()));
  }
  const size_t bytes = static_cast<size_t>(channel_stride(layer.k) * padded_tokens(tokens));
  c.x = allocate<uint8_t>(bytes);
  for (size_t i = 0; i < bytes; ++i) c.x[i] = static_cast<uint8_t>(random());
  for (int i = 0; i < layer.n; ++i) {
    c.init.push_back(static_cast<int32_t>(random() % 1000));
    c.mul.push_back(1e-4F);
    c.add.push_back(128);
  }
  for (int i = 0; i < 256; ++i) c.table.push_back(static_cast<uint8_t>(random()));
  return c;
}

// A variant with its packed weights.
struct Packed {
  std::string name;
  Isa isa;
  double operations;
  Buffer<uint8_t> weights, scratch;
  void (*prepare)(const uint8_t*, int, int, void*);
  void (*run)(const GemmU8S8Args&);

  // Computes all tiles and lowers best[i] to the seconds that tile i took, if it took less.
  void operator()(const Case& c, Store store, uint8_t* out, std::vector<double>& best) const {
    best.resize(static_cast<size_t>(tile_count(c.tokens)), 1e30);
    GemmU8S8Args args{};
    args.k = c.layer.k;
    args.weights = weights.get();
    args.n_end = c.layer.n;
    args.epilogue = {c.init.data(), c.mul.data(), c.add.data(), nullptr, c.table.data(), store};
    args.scratch = scratch.get();
    const int64_t element = store == Store::f32 ? 4 : 1;
    for (int64_t i = 0; i < tile_count(c.tokens); ++i) {
      const Tile tile = tile_at(c.tokens, i);
      args.x = c.x.get() + tile.begin * channel_stride(c.layer.k);
      args.width = tile.width;
      args.out = out + tile.begin * channel_stride(c.layer.n) * element;
      const Clock::time_point start = Clock::now();
      if (prepare != nullptr) prepare(args.x, args.k, args.width, scratch.get());
      run(args);
      double& seconds = best[static_cast<size_t>(i)];
      seconds = std::min(seconds, std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
};

std::vector<Packed> pack_all(const Case& c, const std::string& filter) {
  std::vector<Packed> all;
  const double dense_operations = 2.0 * c.layer.n * c.layer.k * c.tokens;
  for (const GemmU8S8Kernel* kernel : runnable(gemm_u8s8_manifest())) {
    if (std::string(kernel->name).find(filter) == std::string::npos) continue;
    Buffer<uint8_t> weights = allocate<uint8_t>(kernel->packed_bytes(c.layer.n, c.layer.k));
    kernel->pack(c.layer.n, c.layer.k, c.weights.data(), weights.get());
    Buffer<uint8_t> scratch = allocate<uint8_t>(kernel->scratch_bytes(c.layer.k));
    all.push_back({kernel->name, kernel->isa, dense_operations, std::move(weights), std::move(scratch), kernel->prepare,
                   kernel->run});
  }
  for (const SpmmU8S8Kernel* kernel : runnable(spmm_u8s8_manifest())) {
    if (std::string(kernel->name).find(filter) == std::string::npos) continue;
    Buffer<uint8_t> weights = allocate<uint8_t>(kernel->packed_bytes(c.blocks()));
    kernel->pack(c.blocks(), weights.get());
    all.push_back({kernel->name, kernel->isa, 2.0 * static_cast<double>(c.values.size()) * c.tokens, std::move(weights),
                   nullptr, nullptr, kernel->run});
  }
  return all;
}

std::vector<Result> measure(const Case& c, const Options& options) {
  const std::vector<Packed> variants = pack_all(c, options.kernel);
  const size_t out_bytes = static_cast<size_t>(channel_stride(c.layer.n) * padded_tokens(c.tokens)) *
                           (options.store == Store::f32 ? sizeof(float) : 1);
  const Buffer<uint8_t> out = allocate<uint8_t>(out_bytes);
  const Buffer<uint8_t> first = allocate<uint8_t>(out_bytes);
  std::vector<Result> results;
  for (const Packed& variant : variants) {
    std::vector<double> best;
    variant(c, options.store, results.empty() ? first.get() : out.get(), best);
    if (!results.empty() && std::memcmp(first.get(), out.get(), out_bytes) != 0) {
      std::fprintf(stderr, "%s and %s differ on %s\n", variant.name.c_str(), variants.front().name.c_str(),
                   c.layer.name.c_str());
      std::exit(EXIT_FAILURE);
    }
    results.push_back({variant.name, c.layer, c.tokens, c.sparsity, 0, variant.operations, peak_of(variant.isa)});
    Result& result = results.back();
    best_seconds(options.milliseconds, [&] { variant(c, options.store, out.get(), best); });
    result.seconds = std::accumulate(best.begin(), best.end(), 0.0);
    result.peak = std::max(result.peak, peak_of(variant.isa));
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
  if (layers.empty()) {
    std::fprintf(stderr, "%s: no shapes\n", path.c_str());
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
  std::printf("%-22s %-8s %5d %5d %6d %4d%% %10.1f %7.0f ", r.kernel.c_str(), r.layer.name.c_str(), r.layer.n,
              r.layer.k, r.tokens, r.sparsity, r.seconds * 1e6, rate / 1e9);
  if (r.peak > 0) {
    std::printf("%5.1f%%", 100 * rate / r.peak);
  } else {
    std::printf("%6s", "-");
  }
  std::printf(" %8.0f\n", dense / 1e9);
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
