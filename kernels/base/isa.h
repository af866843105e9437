// Which ISA tiers exist, which of them this CPU has, and which one kernels are to use.
#pragma once

#include <vector>

// FASTCPU_IF_<isa>(text) is text if the tier is part of this build and nothing otherwise. The build defines it, for
// every tier, as one of these two.
#define FASTCPU_KEEP(...) __VA_ARGS__
#define FASTCPU_DROP(...)

namespace fastcpu {

// The tiers of isa.def, worst first. The numbers are the same on every architecture.
enum class Isa : int {
#define FASTCPU_ISA(name, architecture, title, features, flags) name,
#include "../isa.def"
#undef FASTCPU_ISA
};

// Every tier of isa.def, best first, whether or not it is built or supported here.
std::vector<Isa> all_isas();

// The name as in isa.def, in file names and in the FASTCPU_ISA environment variable: "avx2".
const char* isa_name(Isa isa) noexcept;

// A name for people: "AVX-512 VNNI".
const char* isa_title(Isa isa) noexcept;

// True if the tier is part of this build, the CPU has all its instructions, and the operating system saves its
// registers.
bool isa_supported(Isa isa) noexcept;

// The supported tiers, best first; the last one is always Isa::scalar.
std::vector<Isa> supported_isas();

// The tier that kernels use: the best supported one, or exactly the one that the environment variable FASTCPU_ISA
// names. The variable is read on the first call only. Throws Error(Kind::isa) if it names an unknown or unsupported
// tier.
Isa selected_isa();

// From now on selected_isa() returns `isa`. Throws Error(Kind::isa) if this CPU does not support it. What was packed or
// dispatched before keeps its tier, so force before loading a model.
void force_isa_for_testing(Isa isa);

}  // namespace fastcpu
