#include "base/content_hash.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <vector>

namespace opsplit {
namespace {

TEST(ContentHash, EveryByteAndTheLengthCount) {
  std::set<std::string> names;
  std::size_t made = 0;
  for (std::size_t length = 0; length < 200; ++length) {
    std::vector<std::byte> bytes(length, std::byte{0});
    names.insert(content_hash(bytes));
    ++made;
    for (std::size_t i = 0; i < length; i += 7) {
      for (const std::byte value : {std::byte{1}, std::byte{0x80}}) {
        bytes[i] = value;
        names.insert(content_hash(bytes));
        ++made;
      }
      bytes[i] = std::byte{0};
    }
  }
  EXPECT_EQ(names.size(), made);
}

TEST(ContentHash, OrderCounts) {
  std::vector<std::byte> bytes(256, std::byte{0});
  std::set<std::string> names;
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    bytes[i] = std::byte{42};
    names.insert(content_hash(bytes));
    bytes[i] = std::byte{0};
  }
  EXPECT_EQ(names.size(), bytes.size() / 8);
}

// Names are part of keys in a cache on disk: a change of them must be on purpose.
TEST(ContentHash, IsTheSameTomorrow) {
  EXPECT_EQ(content_hash({}), "99aa06d3014798d86001c324468d497f");  // as XXH3's authors publish it
  const std::string text = "abc";
  EXPECT_EQ(content_hash(std::as_bytes(std::span(text))), "06b05ab6733a618578af5f94892f3950");
}

TEST(ContentHash, AFileHasTheHashOfItsBytes) {
  const std::filesystem::path file = testing::TempDir() + "content_hash_test";
  for (const std::size_t length : {0, 1, 1000, 262144, 262145, 1000000}) {
    std::string bytes(length, 'x');
    for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<char>(i * i >> 5);
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    const auto hash = content_hash_of(file);
    ASSERT_TRUE(hash) << hash.error().message;
    EXPECT_EQ(*hash, content_hash(std::as_bytes(std::span(bytes))));
  }
  std::filesystem::remove(file);
  EXPECT_FALSE(content_hash_of(file));
  EXPECT_EQ(content_hash_of("/tmp").error().code, ErrorCode::invalid_input);
  EXPECT_EQ(content_hash_of("/dev/zero").error().code, ErrorCode::invalid_input);
}

}  // namespace
}  // namespace opsplit
