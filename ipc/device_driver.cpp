#include "ipc/device_driver.hpp"

#include <algorithm>
#include <charconv>

namespace opsplit::ipc {
namespace {

std::string hex_of(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

bool read_hex(std::string_view text, std::span<std::uint8_t> bytes) {
  if (text.size() != 2 * bytes.size()) return false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char* digits = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, bytes[i], 16);
    if (error != std::errc{} || end != digits + 2) return false;
  }
  return true;
}

constexpr std::array<std::string_view, 3> priorities = {"low", "normal", "high"};

}  // namespace

std::string_view to_string(StreamPriority priority) {
  return priorities[static_cast<std::size_t>(priority)];
}

std::optional<StreamPriority> stream_priority_from_string(std::string_view name) {
  for (std::size_t i = 0; i < priorities.size(); ++i)
    if (priorities[i] == name) return static_cast<StreamPriority>(i);
  return std::nullopt;
}

std::string to_string(const DeviceUuid& uuid) {
  const std::string hex = hex_of(uuid.bytes);
  return fmt::format("GPU-{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20));
}

Result<DeviceUuid> parse_device_uuid(std::string_view text) {
  std::string hex;
  for (const char c : text.substr(0, 64))
    if (c != '-') hex += c;
  DeviceUuid uuid;
  if (!hex.starts_with("GPU") || !read_hex(std::string_view(hex).substr(3), uuid.bytes) ||
      to_string(uuid).size() != text.size())
    return fail(
        ErrorCode::invalid_input,
        "'{}' is no GPU: `opsplit doctor` lists them (GPU-01234567-89ab-cdef-0123-456789abcdef)",
        text.substr(0, 64));
  return uuid;
}

Result<DeviceUuid> choose_device(std::span<const DeviceUuid> devices, std::string_view name) {
  std::size_t number = 0;
  const char* const end = name.data() + name.size();
  const auto [next, problem] = std::from_chars(name.data(), end, number);
  if (problem == std::errc{} && next == end && number < devices.size()) return devices[number];
  if (const auto uuid = parse_device_uuid(name))
    if (std::ranges::find(devices, *uuid) != devices.end()) return *uuid;
  std::string present;
  for (std::size_t i = 0; i < devices.size(); ++i)
    present += fmt::format("{} {}: {}", i == 0 ? "" : ",", i, to_string(devices[i]));
  return fail(ErrorCode::not_found, "no GPU {} here; there is{}", name.substr(0, 64), present);
}

std::string to_string(const DeviceHandle& handle) { return hex_of(handle); }

Result<DeviceHandle> parse_device_handle(std::string_view text) {
  DeviceHandle handle;
  if (!read_hex(text, handle))
    return fail(ErrorCode::invalid_input, "a device handle must be 128 hexadecimal digits");
  return handle;
}

}  // namespace opsplit::ipc
