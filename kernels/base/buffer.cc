#include "base/buffer.h"

#include <algorithm>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastcpu {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kExact = true;  // every buffer is an allocation of its own size: the sanitizer sees its ends
#else
constexpr bool kExact = false;
#endif

constexpr size_t kHugePage = size_t{2} << 20;
// Memory of a chunk is not touched before it is taken, so that a large one costs address space only.
constexpr size_t kChunk = 8 * kHugePage;

// What is left over after whole huge pages stays on small ones, or becomes one more if that wastes less than half.
size_t round_to_huge(size_t bytes) {
  const size_t rest = bytes % kHugePage;
  return rest < kHugePage / 2 ? bytes : bytes - rest + kHugePage;
}

}  // namespace

uint8_t* allocate(size_t& size) {
  const bool huge = !kExact && size >= kHugePage / 2 && size <= SIZE_MAX - kHugePage;
  const size_t rounded = huge ? round_to_huge(size) : size;
  void* memory = nullptr;  // std::aligned_alloc takes multiples of the alignment only
  if (posix_memalign(&memory, huge ? kHugePage : kAlignment, rounded) != 0) throw std::bad_alloc();
#if defined(__linux__)
  if (huge) madvise(memory, rounded / kHugePage * kHugePage, MADV_HUGEPAGE);  // advice: a refusal changes nothing
#endif
  size = rounded;
  return static_cast<uint8_t*>(memory);
}

uint8_t* Arena::take(size_t bytes) {
  const size_t size = align_up(bytes);
  if (size < bytes) throw std::bad_alloc();  // align_up() wrapped around
  if (chunks_.empty() || size > chunks_.back().size() - used_) {
    chunks_.emplace_back(kExact ? size : std::max(size, kChunk));
    used_ = 0;
  }
  uint8_t* memory = chunks_.back().data() + used_;
  used_ += size;
  return memory;
}

}  // namespace fastcpu
