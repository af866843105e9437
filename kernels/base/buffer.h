// Owned, 64-byte aligned memory, on huge pages where it is large.
//
// L2 is indexed by physical addresses. On 4 KiB pages the sets that a working set falls on are a matter of luck, and
// one that nearly fills L2 (the packed weights of a layer and a tile) evicts itself; within a 2 MiB page it does not.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace fastcpu {

constexpr size_t kAlignment = 64;

constexpr size_t align_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// At least `size` bytes, to be released by std::free, and in `size` how many there are; throws std::bad_alloc. From
// half a huge page on, they start on one and ask the system for huge pages (Linux: madvise).
uint8_t* allocate(size_t& size);

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) : size_(align_up(bytes)) {
    if (size_ < bytes) throw std::bad_alloc();  // align_up() wrapped around
    if (size_ > 0) data_.reset(allocate(size_));
  }

  // Grows to at least `bytes`, at least doubling where there is memory for that; contents are lost. Never shrinks.
  // Leaves nothing behind when it throws std::bad_alloc.
  void reserve(size_t bytes) {
    if (bytes <= size_) return;
    const size_t twice = 2 * size_;
    *this = AlignedBuffer();  // what is here may be what the new memory needs
    if (twice > bytes) {
      try {
        *this = AlignedBuffer(twice);
        return;
      } catch (const std::bad_alloc&) {
        // the exact size may still fit
      }
    }
    *this = AlignedBuffer(bytes);
  }

  uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t size_ = 0;
};

// Buffers that share huge pages and live as long as the arena.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least `bytes` bytes, 64-byte aligned; throws std::bad_alloc.
  uint8_t* take(size_t bytes);

 private:
  std::vector<AlignedBuffer> chunks_;
  size_t used_ = 0;  // of the last chunk
};

}  // namespace fastcpu
