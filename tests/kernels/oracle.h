// Helpers of the C++ kernel tests: seeded random numbers, aligned buffers with guard bytes, a digest of outputs, and a
// reporter whose messages name the case and the seed.
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace fastcpu::test {

// splitmix64: the same numbers on every machine, from any seed.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Uniform in [0, count), [low, high] and [low, high).
  uint64_t below(uint64_t count) { return next() % count; }
  int integer(int low, int high) { return low + static_cast<int>(below(static_cast<uint64_t>(high - low) + 1)); }
  float real(float low, float high) { return low + (high - low) * (static_cast<float>(next() >> 40) * 0x1p-24f); }

 private:
  uint64_t state_;
};

// A 64-byte aligned array of T that is filled and surrounded with a known byte.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t count)
      : bytes_(count * sizeof(T)),
        memory_(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes_ + 2 * kGuard + 63) / 64 * 64)), &std::free) {
    refill();
  }

  T* data() { return reinterpret_cast<T*>(memory_.get() + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.get() + kGuard); }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  size_t bytes() const { return bytes_; }
  size_t size() const { return bytes_ / sizeof(T); }

  void refill() { std::memset(memory_.get(), kFill, bytes_ + 2 * kGuard); }
  // True if the bytes in front of the array and behind it are as they were.
  bool intact() const { return untouched(memory_.get(), kGuard) && untouched(memory_.get() + kGuard + bytes_, kGuard); }
  // True if `count` elements from `begin` on still have the value of refill().
  bool unwritten(size_t begin, size_t count) const {
    return untouched(memory_.get() + kGuard + begin * sizeof(T), count * sizeof(T));
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr uint8_t kFill = 0xA5;

  static bool untouched(const uint8_t* p, size_t count) {
    for (size_t i = 0; i < count; ++i)
      if (p[i] != kFill) return false;
    return true;
  }

  size_t bytes_;
  std::unique_ptr<uint8_t, decltype(&std::free)> memory_;
};

// FNV-1a over bytes: equal for two kernels exactly if (but for collisions) all their outputs were equal.
class Digest {
 public:
  void add(const void* data, size_t bytes) {
    const uint8_t* p = static_cast<const uint8_t*>(data);
    for (size_t i = 0; i < bytes; ++i) value_ = (value_ ^ p[i]) * 0x100000001b3u;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

// Counts checks and failures; the first failures are printed.
class Report {
 public:
  explicit Report(uint64_t seed) : seed_(seed) {}

  __attribute__((format(printf, 3, 4))) bool check(bool ok, const char* format, ...) {
    ++checks_;
    if (ok) return true;
    if (++failures_ <= 20) {
      va_list values;
      va_start(values, format);
      std::fprintf(stderr, "FAILED (seed %llu): ", static_cast<unsigned long long>(seed_));
      std::vfprintf(stderr, format, values);
      std::fputc('\n', stderr);
      va_end(values);
    }
    return false;
  }

  uint64_t seed() const { return seed_; }

  // The exit status of main().
  int finish(const char* name) const {
    std::printf("%s: %ld checks, %ld failures\n", name, checks_, failures_);
    return failures_ == 0 && checks_ > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
  }

 private:
  uint64_t seed_;
  long checks_ = 0;
  long failures_ = 0;
};

// Prints the digest of every variant, in the order of `kernels`, and checks that all are the same.
template <class Kernels, class Digests>
void check_digests(const Kernels& kernels, const Digests& digests, Report& report) {
  for (size_t i = 0; i < kernels.size(); ++i) {
    std::printf("%-30s digest %016llx\n", kernels[i]->name, static_cast<unsigned long long>(digests[i].value()));
    report.check(digests[i].value() == digests[0].value(), "%s and %s differ", kernels[i]->name, kernels[0]->name);
  }
}

// The same bits.
inline bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The number whose upper half is a bf16.
inline float of_bf16(uint32_t bits) {
  bits <<= 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// True within `terms` roundings of a sum whose terms have this sum of magnitudes.
inline bool near_sum(double value, double exact, double magnitude, int terms) {
  return std::fabs(value - exact) <= magnitude * (terms + 2) * 0x1p-23;
}

// The seed of a test run: the first argument, or a constant.
inline uint64_t seed_from(int argc, char** argv) { return argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 20261124; }

}  // namespace fastcpu::test
