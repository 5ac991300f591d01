#include "operators/content_hash.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace opsplit::operators {
namespace {

using Wide = unsigned __int128;

// Four independent lanes of 64 x 64 -> 128 bit multiplications (as in wyhash): enough of them in
// flight to keep up with memory. The keys are the first digits of pi, as good as any.
constexpr std::array<std::uint64_t, 4> keys{0x243F6A8885A308D3, 0x13198A2E03707344,
                                            0xA4093822299F31D0, 0x082EFA98EC4E6C89};
constexpr std::size_t stripe = 64;  // bytes: 16 per lane

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

struct Lanes {
  std::array<std::uint64_t, 4> low = keys;
  std::array<std::uint64_t, 4> high{keys[3], keys[2], keys[1], keys[0]};

  void add(const std::byte* data) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      std::array<std::uint64_t, 2> words{};
      std::memcpy(words.data(), data + lane * 16, 16);
      // Each word enters both halves, so that a product of zero hides it from one at most.
      low[lane] = mix(low[lane] ^ words[0], words[1] ^ keys[lane]) + words[1];
      high[lane] = (high[lane] ^ words[1]) * 0x9E3779B97F4A7C15 + words[0];
      high[lane] = (high[lane] << 29) | (high[lane] >> 35);
    }
  }
};

}  // namespace

std::string content_hash(std::span<const std::byte> bytes) {
  Lanes lanes;
  std::size_t position = 0;
  for (; position + stripe <= bytes.size(); position += stripe) lanes.add(bytes.data() + position);
  std::array<std::byte, stripe> rest{};
  if (position < bytes.size())
    std::memcpy(rest.data(), bytes.data() + position, bytes.size() - position);
  lanes.add(rest.data());  // zero-padded; the size below tells it from a longer one

  std::uint64_t first = mix(bytes.size() ^ keys[0], keys[1]);
  std::uint64_t second = mix(bytes.size() ^ keys[2], keys[3]);
  for (std::size_t lane = 0; lane < 4; ++lane) {
    first = mix(first ^ lanes.low[lane], keys[lane] ^ lanes.high[lane]) + lanes.high[lane];
    second = mix(second ^ lanes.high[lane], keys[3 - lane] + first) ^ lanes.low[lane];
  }
  return fmt::format("{:016x}{:016x}", first, second);
}

}  // namespace opsplit::operators
