#include "daemon/table.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace opsplit::daemon {
namespace {

using Rows = std::vector<std::vector<std::string>>;

TEST(TableTest, NumbersStandToTheRight) {
  EXPECT_EQ(render_table(Rows{{"operator", "pid", "p50", "ratio", "state"},
                              {"conv", "4711", "12.5 ms", "1.02x", "ready"},
                              {"pool", "12", "0.3 ms", "1x", "starting"},
                              {"dense", "-", "-", "", "stopped"}}),
            "operator   pid      p50  ratio  state\n"
            "conv      4711  12.5 ms  1.02x  ready\n"
            "pool        12   0.3 ms     1x  starting\n"
            "dense        -        -         stopped\n");
}

TEST(TableTest, WhatOnlyLooksLikeNumbersStandsToTheLeft) {
  // Lists of cores, shapes, names, times of day
  for (const char* cell : {"0-3", "0,2-3", "1x3x224x224", "3d-conv", "12:30", "1 of 2"})
    EXPECT_EQ(render_table(Rows{{"the column"}, {cell}}), fmt::format("the column\n{}\n", cell));
}

TEST(TableTest, WidthsCountCharactersAndNotBytes) {
  EXPECT_EQ(render_table(Rows{{"name", "time"}, {"K\xc3\xb6ln", "3 \xc2\xb5s"}, {"Rom", "12 s"}}),
            "name  time\n"
            "K\xc3\xb6ln  3 \xc2\xb5s\n"
            "Rom   12 s\n");
}

TEST(TableTest, ShortRowsAndNone) {
  EXPECT_EQ(render_table(Rows{}), "");
  EXPECT_EQ(render_table(Rows{{"a", "b"}, {"c"}, {}}), "a  b\nc\n\n");
}

TEST(TableTest, EscapesDoNotReachTheTerminal) {
  EXPECT_EQ(render_table(Rows{{"a"}, {"\x1b[2J\n"}}), "a\n?[2J?\n");
}

}  // namespace
}  // namespace opsplit::daemon
