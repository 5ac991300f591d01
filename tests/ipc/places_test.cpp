#include "ipc/places.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

struct PlacesTest : testing::Test {
  TestDeployment deployment{join_plan()};
  Places places{deployment.board, deployment.plan, deployment.arena};
};

TEST_F(PlacesTest, ATensorLiesAtItsOffsetInTheArenaOfItsSlot) {
  for (std::uint32_t slot = 0; slot < 2; ++slot)
    for (std::int32_t tensor = 0; tensor < 4; ++tensor) {
      const PlacedTensor placed = places.write(slot, tensor);
      EXPECT_EQ(placed.data, deployment.arena.data() + slot * deployment.plan.slot_bytes +
                                 deployment.plan.tensors[static_cast<std::size_t>(tensor)].offset);
      EXPECT_EQ(placed.bytes, 16u);
      EXPECT_EQ(placed.type, (TensorType{float32, {4}}));
    }
}

TEST_F(PlacesTest, WhatWasWrittenIsRead) {
  places.write_header(1, 7, 2);
  const auto placed = places.read(1, 7, 2);
  ASSERT_TRUE(placed) << placed.error().message;
  EXPECT_EQ(placed->data, places.write(1, 2).data);
  EXPECT_EQ(placed->layout, Layout::row_major);
}

TEST_F(PlacesTest, AHeaderOfAnotherRequestOrSlotIsRefused) {
  places.write_header(1, 7, 2);
  EXPECT_FALSE(places.read(1, 8, 2));
  EXPECT_FALSE(places.read(1, 6, 2));
  EXPECT_FALSE(places.read(0, 7, 2));
  EXPECT_FALSE(places.read(1, 7, 3));
}

// Whatever a hostile process writes there: an error, or the place that the plan knows.
TEST_F(PlacesTest, AHostileHeaderLeadsNowhereElse) {
  SharedHeader& shared = deployment.board.tensor_header(0, 1);
  places.write_header(0, 1, 1);
  for (auto& word : shared.words) {
    const std::uint64_t honest = word.load();
    for (int bit = 0; bit < 64; ++bit) {
      word = honest ^ std::uint64_t{1} << bit;
      if (const auto placed = places.read(0, 1, 1)) {
        EXPECT_EQ(placed->data, places.write(0, 1).data);
        EXPECT_LE(placed->bytes, 16u);
      }
    }
    word = honest;
  }
  EXPECT_TRUE(places.read(0, 1, 1));
}

TEST(VaryingPlace, IsReadAsLargeAsItBecame) {
  Plan plan = join_plan();
  const std::int32_t output = plan.outputs.at(0);
  plan.tensors[static_cast<std::size_t>(output)].varies = true;
  ASSERT_TRUE(validate(plan));
  TestDeployment deployment(plan);
  const Places places(deployment.board, deployment.plan, deployment.arena);
  for (const std::int64_t size : {4, 3, 0}) {
    ASSERT_TRUE(places.write_header(0, 1, output, {size}));
    const auto placed = places.read(0, 1, output);
    ASSERT_TRUE(placed) << placed.error().message;
    EXPECT_EQ(placed->type, (TensorType{float32, {size}}));
    EXPECT_EQ(placed->bytes, static_cast<std::uint64_t>(size) * 4);
    EXPECT_EQ(placed->data, places.write(0, output).data);
  }
  EXPECT_FALSE(places.write_header(0, 1, output, {5}));
  EXPECT_FALSE(places.write_header(0, 1, output, {1, 1}));
  EXPECT_FALSE(places.write_header(0, 1, plan.inputs.at(0), {3}));
}

TEST(Workspace, IsForTasksOfSeveralNodesInSlotZero) {
  Plan plan = join_plan();
  plan.workspace_bytes = 256;
  plan.tasks[2].nodes.push_back("another");
  const TestDeployment deployment(plan);
  std::vector<std::byte> arena(arena_bytes(plan, 2).value());
  const Places places(deployment.board, deployment.plan, arena);
  const auto workspace = places.workspace(0, 2);
  EXPECT_EQ(workspace.data(), arena.data() + 2 * plan.slot_bytes);
  EXPECT_EQ(workspace.data() + workspace.size(), arena.data() + arena.size());
  EXPECT_EQ(workspace.size(), 256u);
  EXPECT_TRUE(places.workspace(1, 2).empty());
  EXPECT_TRUE(places.workspace(0, 1).empty());
}

TEST(ArenaBytes, AreTheSlotsAndTheWorkspaceAndDoNotOverflow) {
  Plan plan = join_plan();
  EXPECT_EQ(arena_bytes(plan, 3).value(), 3 * plan.slot_bytes);
  plan.workspace_bytes = 64;
  EXPECT_EQ(arena_bytes(plan, 3).value(), 3 * plan.slot_bytes + 64);
  plan.workspace_bytes = std::numeric_limits<std::uint64_t>::max() - plan.slot_bytes;
  EXPECT_FALSE(arena_bytes(plan, 3));
  plan.workspace_bytes = 0;
  plan.slot_bytes = std::numeric_limits<std::uint64_t>::max() / 2;
  const auto bytes = arena_bytes(plan, 3);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, ErrorCode::limit_exceeded);
}

}  // namespace
}  // namespace opsplit::ipc
