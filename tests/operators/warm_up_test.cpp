#include "operators/warm_up.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

namespace opsplit::operators {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Does as it is told with the first input of each of its tasks.
struct FakeOperator final : Operator {
  Result<> run(std::size_t task, std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs, RunContext& run_context) override {
    tasks.push_back(task);
    run_context.lost = tasks.size() == loses_at;
    for (const MutableTensorView& output : outputs)
      std::memset(output.data, 0xff, byte_size(output.type, output.layout).value());
    return compute(task, inputs[0]);
  }
  [[nodiscard]] bool is_picky(std::size_t task) const override { return task == picky; }

  std::function<Result<>(std::size_t, const TensorView&)> compute;
  std::vector<std::size_t> tasks;
  std::size_t picky = 99;
  std::size_t loses_at = 99;  // the run, from 1
};

template <class T>
std::vector<T> values(const TensorView& view) {
  std::vector<T> result(byte_size(view.type, view.layout).value() / sizeof(T));
  std::memcpy(result.data(), view.data, result.size() * sizeof(T));
  return result;
}

class WarmUp : public ::testing::Test {
 protected:
  // The second of two operators, with a task for each type.
  Result<> warm_up(const std::vector<TensorType>& types, Layout layout = Layout::row_major) {
    Plan plan;
    plan.tasks.emplace_back().name = "of another one";
    plan.operators.resize(2);
    for (const TensorType& type : types) {
      const auto tensor = static_cast<std::int32_t>(plan.tensors.size());
      PlannedTensor described;
      described.type = type;
      described.layout = layout;
      plan.tensors.resize(plan.tensors.size() + 2, described);
      plan.operators[1].tasks.push_back(static_cast<std::int32_t>(plan.tasks.size()));
      PlannedTask& task = plan.tasks.emplace_back();
      task.name = "of " + to_string(type);
      task.inputs = {tensor};
      task.outputs = {tensor + 1};
    }
    return operators::warm_up(op, plan, plan.operators[1], context);
  }
  FakeOperator op;
  RunContext context;
};

TEST_F(WarmUp, RunsEachTaskOnceOnOnes) {
  op.compute = [](std::size_t, const TensorView& x) -> Result<> {
    const DType dtype = x.type.dtype;
    if (dtype == float32) {
      EXPECT_THAT(values<float>(x), ElementsAre(1, 1, 1));
    } else if (dtype == float64) {
      EXPECT_THAT(values<double>(x), ElementsAre(1, 1, 1));
    } else if (dtype == int64) {
      EXPECT_THAT(values<std::int64_t>(x), ElementsAre(1, 1, 1));
    } else if (dtype == uint8 || dtype == bool8) {
      EXPECT_THAT(values<std::uint8_t>(x), ElementsAre(1, 1, 1));
    } else {
      EXPECT_THAT(values<std::uint16_t>(x), Each(dtype == float16 ? 0x3C00 : 0x3F80));
    }
    return {};
  };
  std::vector<TensorType> types;
  for (const DType dtype : {float32, float64, int64, uint8, bool8, float16, bfloat16})
    types.push_back({dtype, {3}});
  EXPECT_TRUE(warm_up(types));
  EXPECT_THAT(op.tasks, ElementsAre(0, 1, 2, 3, 4, 5, 6));
}

// An index into one element.
TEST_F(WarmUp, WhatFailsOnOnesMayComputeZeros) {
  op.compute = [](std::size_t task, const TensorView& x) -> Result<> {
    if (task == 1 && values<std::int32_t>(x)[0] != 0)
      return fail(ErrorCode::operator_failed, "out of range");
    return {};
  };
  EXPECT_TRUE(warm_up({{float32, {3}}, {int32, {2}}}));
  EXPECT_THAT(op.tasks, ElementsAre(0, 1, 1));
}

TEST_F(WarmUp, WhatComputesNeitherIsNamed) {
  op.compute = [](std::size_t task, const TensorView& x) -> Result<> {
    if (task == 1) return fail(ErrorCode::operator_failed, "no {}", values<std::int32_t>(x)[0]);
    return {};
  };
  const auto warm = warm_up({{float32, {3}}, {int32, {2}}, {float32, {3}}});
  ASSERT_FALSE(warm);
  EXPECT_THAT(warm.error().message,
              AllOf(HasSubstr("task of int32 2"), HasSubstr("no 1"), Not(HasSubstr("no 0"))));
}

TEST_F(WarmUp, WhatMayTakeOtherInputsOnlyStartsUntried) {
  op.picky = 1;
  op.compute = [](std::size_t task, const TensorView&) -> Result<> {
    if (task == 1) return fail(ErrorCode::invalid_input, "neither");
    return {};
  };
  EXPECT_TRUE(warm_up({{float32, {3}}, {float32, {3}}, {float32, {3}}}));
  EXPECT_THAT(op.tasks, ElementsAre(0, 1, 1, 2));
}

// Nothing that is run after it could say anything, nor may it touch what the lost run still writes.
TEST_F(WarmUp, AProcessThatIsLostRunsNothingMore) {
  op.picky = 0;
  op.compute = [](std::size_t, const TensorView&) -> Result<> {
    return fail(ErrorCode::system, "an illegal address");
  };
  for (const std::size_t run : {1u, 2u}) {
    op.tasks.clear();
    op.loses_at = run;
    context = {};
    const auto warm = warm_up({{float32, {3}}, {float32, {3}}});
    ASSERT_FALSE(warm);
    EXPECT_THAT(warm.error().message, HasSubstr("an illegal address"));
    EXPECT_TRUE(context.lost);
    EXPECT_EQ(op.tasks.size(), run);
  }
}

TEST_F(WarmUp, PaddingStaysZero) {
  op.compute = [](std::size_t, const TensorView& x) -> Result<> {
    EXPECT_THAT(values<float>(x), Each(0));
    return {};
  };
  EXPECT_TRUE(warm_up({{float32, {1, 3, 2, 2}}}, Layout::nChw8c));
}

}  // namespace
}  // namespace opsplit::operators
