#include "base/isa.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastcpu {
namespace {

// The CPU features that rows of isa.def may require.
namespace feature {
enum : std::uint32_t {
  none = 0,
  fma = 1u << 0,
  f16c = 1u << 1,
  avx2 = 1u << 2,
  avx512f = 1u << 3,
  avx512bw = 1u << 4,
  avx512vl = 1u << 5,
  avx512dq = 1u << 6,
  avx512vnni = 1u << 7,
  avx512vbmi = 1u << 8,
  avx512bf16 = 1u << 9,
};
}  // namespace feature

struct Tier {
  const char* name;
  const char* title;
  std::uint32_t features;
  bool built;
};

constexpr Tier kTiers[] = {
#define FASTCPU_ISA(name, architecture, title, features, flags) \
  {#name, title, features, FASTCPU_IF_##name(true ||) false},
#include "../isa.def"
#undef FASTCPU_ISA
};
constexpr int kTierCount = static_cast<int>(std::size(kTiers));

#if defined(__x86_64__)

// The register state that the operating system saves on a context switch (XCR0), valid only where CPUID reports
// OSXSAVE.
std::uint64_t saved_register_state() noexcept {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// An instruction is only usable if CPUID reports it and the OS saves the registers it works on; bit positions are those
// of the Intel SDM, volume 2, CPUID, and volume 1, section 13.3 (XCR0).
std::uint32_t detect_features() noexcept {
  constexpr std::uint64_t ymm_state = 0x06;  // SSE, AVX
  constexpr std::uint64_t zmm_state = 0xe6;  // SSE, AVX, opmask, ZMM 0-15 upper halves, ZMM 16-31

  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return feature::none;
  const auto bit = [](std::uint32_t word, int position) { return ((word >> position) & 1u) != 0; };
  const bool osxsave = bit(ecx, 27);
  const bool avx = bit(ecx, 28);
  const bool fma = bit(ecx, 12);
  const bool f16c = bit(ecx, 29);
  if (!osxsave || !avx) return feature::none;
  const std::uint64_t state = saved_register_state();
  if ((state & ymm_state) != ymm_state) return feature::none;

  std::uint32_t found = feature::none;
  if (fma) found |= feature::fma;
  if (f16c) found |= feature::f16c;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;
  if (bit(ebx, 5)) found |= feature::avx2;
  if ((state & zmm_state) != zmm_state || !bit(ebx, 16)) return found;
  found |= feature::avx512f;
  if (bit(ebx, 17)) found |= feature::avx512dq;
  if (bit(ebx, 30)) found |= feature::avx512bw;
  if (bit(ebx, 31)) found |= feature::avx512vl;
  if (bit(ecx, 1)) found |= feature::avx512vbmi;
  if (bit(ecx, 11)) found |= feature::avx512vnni;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && bit(eax, 5)) found |= feature::avx512bf16;
  return found;
}

#else

std::uint32_t detect_features() noexcept { return feature::none; }

#endif

[[noreturn]] void throw_isa_error(const std::string& problem) {
  std::string names;
  for (const Isa isa : supported_isas()) {
    if (!names.empty()) names += ", ";
    names += isa_name(isa);
  }
  throw Error(Error::Kind::isa, problem + "; supported here: " + names);
}

Isa isa_from_environment() {
  const char* wanted = std::getenv("FASTCPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported_isas().front();
  for (const Isa isa : all_isas()) {
    if (std::string(isa_name(isa)) != wanted) continue;
    if (isa_supported(isa)) return isa;
    throw_isa_error("FASTCPU_ISA=" + std::string(wanted) + " asks for instructions that this CPU or this build lacks");
  }
  throw_isa_error("FASTCPU_ISA=" + std::string(wanted) + " names no instruction set that fastcpu knows");
}

// The forced tier, or -1 while nothing is forced.
std::atomic<int> forced_isa{-1};

}  // namespace

std::vector<Isa> all_isas() {
  std::vector<Isa> isas;
  for (int i = kTierCount - 1; i >= 0; --i) isas.push_back(static_cast<Isa>(i));
  return isas;
}

const char* isa_name(Isa isa) noexcept { return kTiers[static_cast<int>(isa)].name; }

const char* isa_title(Isa isa) noexcept { return kTiers[static_cast<int>(isa)].title; }

bool isa_supported(Isa isa) noexcept {
  static const std::uint32_t present = detect_features();
  const Tier& tier = kTiers[static_cast<int>(isa)];
  return tier.built && (present & tier.features) == tier.features;
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : all_isas()) {
    if (isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa selected_isa() {
  const int forced = forced_isa.load(std::memory_order_acquire);
  if (forced >= 0) return static_cast<Isa>(forced);
  static const Isa selected = isa_from_environment();
  return selected;
}

void force_isa_for_testing(Isa isa) {
  if (!isa_supported(isa)) {
    throw_isa_error(std::string("cannot force ") + isa_name(isa) + ": this CPU or this build lacks it");
  }
  forced_isa.store(static_cast<int>(isa), std::memory_order_release);
}

}  // namespace fastcpu
