#include "operators/content_hash.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace opsplit::operators {
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
  const std::vector<std::byte> bytes(100, std::byte{7});
  EXPECT_EQ(content_hash(bytes), content_hash(std::vector<std::byte>(100, std::byte{7})));
  EXPECT_EQ(content_hash(bytes).size(), 32U);
}

}  // namespace
}  // namespace opsplit::operators
