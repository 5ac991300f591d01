#include "graph/names.hpp"

#include <gtest/gtest.h>

namespace opsplit::graph {
namespace {

TEST(Names, PrintableIsUtf8WithoutControlCharacters) {
  for (const char* good : {"", "conv1/weight:0", "gpu_0/data", "größe", "層", "\xf0\x9f\x99\x82"})
    EXPECT_TRUE(is_printable(good)) << good;
  for (const char* bad : {"a\nb", "\x1b[31m", "\x7f", "\xc2\x85", "\xff", "\xc3", "\xc0\xaf",
                          "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"})
    EXPECT_FALSE(is_printable(bad)) << bad;
  EXPECT_FALSE(is_printable(std::string_view("a\0b", 3)));
}

TEST(Names, OperatorNamesHoldOnlyHarmlessCharacters) {
  EXPECT_EQ(operator_name("gpu_0/Conv1:0", "conv"), "gpu_0_conv1_0");
  EXPECT_EQ(operator_name("", "conv"), "conv");
  EXPECT_EQ(operator_name(std::string(100, 'A'), "conv"), std::string(64, 'a'));
}

TEST(Names, UniqueNamesStayWithinTheSize) {
  UniqueNames names;
  EXPECT_EQ(names.make("a"), "a");
  EXPECT_EQ(names.make("a"), "a_2");
  EXPECT_TRUE(names.take("a_3"));
  EXPECT_FALSE(names.take("a_3"));
  EXPECT_EQ(names.make("a"), "a_4");
  EXPECT_EQ(names.make("abcdef", 6), "abcdef");
  EXPECT_EQ(names.make("abcdefgh", 6), "abcd_2");
}

}  // namespace
}  // namespace opsplit::graph
