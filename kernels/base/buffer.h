// Owned, 64-byte aligned memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace fastcpu {

constexpr size_t kAlignment = 64;

constexpr size_t align_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) : size_(align_up(bytes)) {
    if (size_ < bytes) throw std::bad_alloc();  // align_up() wrapped around
    if (size_ == 0) return;
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(kAlignment, size_)));
    if (!data_) throw std::bad_alloc();
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

}  // namespace fastcpu
