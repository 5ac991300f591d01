#include "graph/names.hpp"

#include <algorithm>
#include <cstdint>

namespace opsplit::graph {
namespace {

constexpr std::size_t max_operator_name = 64;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Bytes of the UTF-8 character that text starts with; 0 if it is none, or not printable.
std::size_t character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  std::uint32_t code = first & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  const bool control = code < 0xa0;  // C1
  return overlong || surrogate || control || code > 0x10ffff ? 0 : size;
}

}  // namespace

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const std::size_t size = character(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

std::string operator_name(std::string_view text, std::string_view otherwise) {
  std::string result = lower_case(text.substr(0, max_operator_name));
  for (char& c : result)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) c = '_';
  return result.empty() ? std::string(otherwise) : result;
}

std::string UniqueNames::make(std::string_view wanted, std::size_t max_size) {
  std::string first(wanted.substr(0, max_size));
  if (take(first)) return first;
  int& number = last_number_.emplace(first, 1).first->second;
  for (;;) {
    const std::string suffix = "_" + std::to_string(++number);
    const std::size_t room = max_size == std::string::npos ? max_size : max_size - suffix.size();
    if (std::string name = first.substr(0, room) + suffix; take(name)) return name;
  }
}

}  // namespace opsplit::graph
