#include "ipc/device_driver.hpp"

#include <gtest/gtest.h>

namespace opsplit::ipc {
namespace {

TEST(DeviceUuid, IsWrittenAndReadAsNvidiaSmiDoes) {
  DeviceUuid uuid;
  for (std::size_t i = 0; i < uuid.bytes.size(); ++i)
    uuid.bytes[i] = static_cast<std::uint8_t>(i << 4 | i);
  const std::string text = "GPU-00112233-4455-6677-8899-aabbccddeeff";
  EXPECT_EQ(to_string(uuid), text);
  const auto read = parse_device_uuid(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, uuid);
}

TEST(DeviceUuid, OtherTextsAreRefused) {
  for (const std::string text :
       {"", "0", "GPU-0", "00112233-4455-6677-8899-aabbccddeeff",
        "GPU-00112233-4455-6677-8899-aabbccddeefg", "GPU-00112233-4455-6677-8899-aabbccddeeff0",
        "GPU-0011223344556677-8899-aabbccddeeff", "GPU-00112233-4455-6677-8899-aabbccdd -1f"})
    EXPECT_FALSE(parse_device_uuid(text)) << text;
  EXPECT_FALSE(parse_device_uuid("GPU-" + std::string(5000, '-')));
}

TEST(DeviceUuid, IsChosenByNumberOrName) {
  std::array<DeviceUuid, 2> devices;
  devices[1].bytes.fill(0x11);
  const std::string second = "GPU-11111111-1111-1111-1111-111111111111";
  EXPECT_EQ(choose_device(devices, "0").value(), devices[0]);
  EXPECT_EQ(choose_device(devices, "1").value(), devices[1]);
  EXPECT_EQ(choose_device(devices, second).value(), devices[1]);
  for (const std::string_view name :
       {"2", "", "-1", "1x", "GPU-11111111-1111-1111-1111-111111111112"}) {
    const auto none = choose_device(devices, name);
    ASSERT_FALSE(none) << name;
    EXPECT_EQ(none.error().code, ErrorCode::not_found);
    EXPECT_EQ(none.error().message, fmt::format("no GPU {} here; there is 0: {}, 1: {}", name,
                                                to_string(devices[0]), second));
  }
}

TEST(DeviceHandle, ComesThroughAMessageUnchanged) {
  DeviceHandle handle;
  for (std::size_t i = 0; i < handle.size(); ++i) handle[i] = static_cast<std::uint8_t>(255 - i);
  const auto read = parse_device_handle(to_string(handle));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, handle);
}

TEST(DeviceHandle, OtherTextsAreRefused) {
  EXPECT_FALSE(parse_device_handle(""));
  EXPECT_FALSE(parse_device_handle(std::string(126, '0')));
  EXPECT_FALSE(parse_device_handle(std::string(130, '0')));
  EXPECT_FALSE(parse_device_handle(std::string(127, '0') + "x"));
  EXPECT_FALSE(parse_device_handle("+1" + std::string(126, '0')));
}

}  // namespace
}  // namespace opsplit::ipc
