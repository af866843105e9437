// CRC32C: published values (RFC 3720, B.4), and every length and alignment against a bit-by-bit loop.
#include "base/crc32c.h"

#include <string>
#include <vector>

#include "oracle.h"

namespace fastcpu::test {
namespace {

uint32_t bit_by_bit(const uint8_t* data, size_t bytes) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < bytes; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

int run_test(uint64_t seed) {
  Report report(seed);
  std::string ascending, descending;
  for (int i = 0; i < 32; ++i) {
    ascending += static_cast<char>(i);
    descending += static_cast<char>(31 - i);
  }
  const std::pair<std::string, uint32_t> known[] = {
      {"", 0},
      {"a", 0xc1d04330},
      {"123456789", 0xe3069283},
      {std::string(32, '\0'), 0x8a9136aa},
      {std::string(32, '\xff'), 0x62a8ab43},
      {ascending, 0x46dd794e},
      {descending, 0x113fdb5c},
  };
  for (const auto& [text, expected] : known)
    report.check(crc32c(text.data(), text.size()) == expected, "%zu bytes: %08x instead of %08x", text.size(),
                 crc32c(text.data(), text.size()), expected);
  Random random(seed);
  std::vector<uint8_t> data(600);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.next());
  for (size_t begin = 0; begin < 9; ++begin)
    for (size_t size = 0; size + begin <= data.size(); size += size < 40 ? 1 : 37)
      report.check(crc32c(data.data() + begin, size) == bit_by_bit(data.data() + begin, size), "%zu bytes at %zu", size,
                   begin);
  return report.finish("crc32c");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
