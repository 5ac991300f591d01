// What the members of a ring send each other over a transport. If it is touched, each hop writes
// another byte everywhere, and whoever gets it adds up what came: that it is what was sent is
// checked, not believed.
#pragma once

#include <stdexcept>
#include <vector>

#include "bench/contender.hpp"

namespace opsplit::bench {

class Payload {
 public:
  explicit Payload(const Setting& setting)
      : touched_(setting.touched), bytes_(setting.payload, first) {}

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

  // The next to be sent. It may be sent from where it lies: it is written again only once the answer
  // is here, and so all of it was there.
  std::span<const std::byte> next() {
    if (touched_) write_all(bytes_, value_of(sent_++));
    return bytes_;
  }

  // A piece of what came, in the order of sending.
  void take(std::span<const std::byte> piece) {
    taken_ += piece.size();
    if (!touched_) return;
    constexpr std::uint64_t every_byte = 0x0101010101010101;
    const auto value = value_of(received_);
    const std::size_t words = piece.size() / sizeof every_byte;
    bool same = read_all(piece) == words * every_byte * static_cast<std::uint64_t>(value);
    for (const std::byte byte : piece.subspan(words * sizeof every_byte)) same &= byte == value;
    if (!same) throw std::runtime_error("what came is not what was sent");
  }

  // All pieces have been taken.
  void end() {
    if (taken_ != size()) throw std::runtime_error("more or less came than was sent");
    taken_ = 0;
    ++received_;
  }

 private:
  static constexpr std::byte first{1};
  static std::byte value_of(std::size_t message) { return std::byte(1 + message % 255); }

  bool touched_;
  std::vector<std::byte> bytes_;
  std::size_t sent_ = 0, received_ = 0, taken_ = 0;
};

}  // namespace opsplit::bench
