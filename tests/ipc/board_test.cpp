#include "ipc/board.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t epoch = 7;

struct BoardTest : testing::Test {
  ~BoardTest() override { Board::remove(name); }
  [[nodiscard]] BoardLayout layout_of(const Plan& p, std::uint32_t depth = 2) const {
    return BoardLayout::of(p, depth, 16).value();
  }

  Plan plan = join_plan();
  std::string name = "opsplit.board_test." + std::to_string(getpid()) + ".board";
};

TEST_F(BoardTest, NothingOverlapsAndEachArrayBeginsOnALineOfItsOwn) {
  const BoardLayout layout = layout_of(plan);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> arrays = {
      {0, sizeof(BoardHeader)},
      {layout.slots, layout.depth * sizeof(SlotRecord)},
      {layout.doorbells, layout.operators * sizeof(Doorbell)},
      {layout.hints[0], layout.depth * layout.hint_words[0] * sizeof(std::uint64_t)},
      {layout.hints[1], layout.depth * layout.hint_words[1] * sizeof(std::uint64_t)},
      {layout.task_records, layout.depth * layout.tasks * sizeof(TaskRecord)},
      {layout.headers, layout.depth * layout.tensors * sizeof(SharedHeader)},
      {layout.participant_records, layout.participants * sizeof(Participant)},
      {layout.durations, layout.participants * sizeof(Durations)}};
  std::uint64_t end = 0;
  for (const auto& [offset, bytes] : arrays) {
    EXPECT_GE(offset, end);
    EXPECT_EQ(offset % 64, 0u);
    end = offset + bytes;
  }
  EXPECT_GE(layout.total_bytes, end);
}

TEST_F(BoardTest, WithRoomForManyParticipantsItStaysSmall) {
  EXPECT_LE(BoardLayout::of(plan, 8, default_participants)->total_bytes, 1'500'000u);
}

TEST_F(BoardTest, ImpossibleSizesAreRefused) {
  EXPECT_FALSE(BoardLayout::of(plan, 0, 16));
  EXPECT_FALSE(BoardLayout::of(plan, max_depth + 1, 16));
  EXPECT_FALSE(BoardLayout::of(plan, 1, 0));
}

TEST_F(BoardTest, AFreshOneIsFreeAndWaiting) {
  const Board board = Board::create(name, layout_of(plan), epoch).value();
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    EXPECT_EQ(SlotWord::unpack(board.slot(slot).word.load()).state, SlotState::free);
    for (std::uint32_t task = 0; task < 3; ++task)
      EXPECT_EQ(TaskWord::unpack(board.task(slot, task).word.load()).state, TaskState::waiting);
  }
  EXPECT_EQ(board.header().epoch_state, 0u);
}

TEST_F(BoardTest, WhatOneMappingWritesAnotherReads) {
  const Board one = Board::create(name, layout_of(plan), epoch).value();
  const Board other = Board::open(name, layout_of(plan), epoch).value();
  one.task(1, 2).word = 42;
  EXPECT_EQ(other.task(1, 2).word, 42u);
  EXPECT_NE(&one.header(), &other.header());
}

TEST_F(BoardTest, OneThatExistsIsNotReplaced) {
  const Board board = Board::create(name, layout_of(plan), epoch).value();
  board.header().epoch_state = 1;
  const auto second = Board::create(name, layout_of(plan), epoch);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::already_exists);
  EXPECT_EQ(Board::open(name, layout_of(plan), epoch)->header().epoch_state, 1u);
}

TEST_F(BoardTest, OfAnotherPlanDepthEpochOrVersionIsRefused) {
  EXPECT_FALSE(Board::open(name, layout_of(plan), epoch)) << "not there";
  const Board board = Board::create(name, layout_of(plan), epoch).value();
  Plan renamed = plan;
  renamed.tensors[0].name = "another";
  for (const auto& refused :
       {Board::open(name, layout_of(plan, 1), epoch), Board::open(name, layout_of(plan, 3), epoch),
        Board::open(name, layout_of(renamed), epoch),
        Board::open(name, layout_of(plan), epoch + 1)}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::refused);
  }
  ++board.header().version;
  EXPECT_THAT(Board::open(name, layout_of(plan), epoch).error().message, HasSubstr("version"));
}

TEST_F(BoardTest, OneThatWasCutOffIsRefused) {
  { const Board board = Board::create(name, layout_of(plan), epoch).value(); }
  std::filesystem::resize_file("/dev/shm/" + name, 4096);
  const auto refused = Board::open(name, layout_of(plan), epoch);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("4096 bytes, this plan needs"));
}

}  // namespace
}  // namespace opsplit::ipc
