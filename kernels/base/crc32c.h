// CRC32C (Castagnoli), the checksum of every tensor in a model file.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastcpu {

uint32_t crc32c(const void* data, size_t bytes);

}  // namespace fastcpu
