#include <gmock/gmock.h>

#include <random>

#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using ::testing::HasSubstr;

class Pooling : public CudaKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cuda, Pooling, everywhere, name_of);

TEST_P(Pooling, OfOneToThreeAxes) {
  for (const char* op : {"MaxPool", "AveragePool"}) {
    SCOPED_TRACE(op);
    expect_reference({op, {given({2, 3, 9})}, {{"kernel_shape", Ints{3}}, {"strides", Ints{2}}}});
    expect_reference(
        {op, {given({2, 3, 9, 8})}, {{"kernel_shape", Ints{3, 2}}, {"strides", Ints{2, 2}}}});
    expect_reference({op, {given({1, 2, 5, 6, 7})}, {{"kernel_shape", Ints{2, 3, 2}}}});
  }
}

TEST_P(Pooling, RandomWindows) {
  std::mt19937 random(11);
  const auto up_to = [&](std::int64_t most) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
  };
  for (int i = 0; i < 30; ++i) {
    const bool is_maximum = random() % 2 == 0;
    const Ints kernel{1 + up_to(3), 1 + up_to(3)};
    Attributes attributes{{"kernel_shape", kernel},
                          {"strides", Ints{1 + up_to(2), 1 + up_to(2)}},
                          {"ceil_mode", up_to(1)},
                          {"pads", Ints{up_to(kernel[0] - 1), up_to(kernel[1] - 1),
                                        up_to(kernel[0] - 1), up_to(kernel[1] - 1)}}};
    if (is_maximum)
      attributes.emplace("dilations", Ints{1 + up_to(1), 1 + up_to(1)});
    else
      attributes.emplace("count_include_pad", up_to(1));
    expect_reference({is_maximum ? "MaxPool" : "AveragePool",
                      {given({1 + up_to(1), 1 + up_to(3), 8 + up_to(5), 8 + up_to(5)})},
                      attributes});
  }
}

// The last windows reach beyond the padding: what they have there counts for nothing, the padding may.
TEST_P(Pooling, CeilModeCountsNoMoreThanThePadding) {
  for (const std::int64_t count : {0, 1})
    for (const std::int64_t pad : {0, 1})
      expect_reference({"AveragePool",
                        {given({1, 2, 6, 9})},
                        {{"kernel_shape", Ints{3, 2}},
                         {"strides", Ints{2, 2}},
                         {"pads", Ints(4, pad)},
                         {"ceil_mode", std::int64_t{1}},
                         {"count_include_pad", count}}});
}

TEST_P(Pooling, Global) {
  for (const char* op : {"GlobalAveragePool", "GlobalMaxPool"})
    for (const Shape& shape : {Shape{2, 5, 7, 7}, Shape{1, 3, 1, 1}, Shape{1, 2, 129}})
      expect_reference({op, {given(shape)}});
}

TEST_P(Pooling, IndicesAreNotComputed) {
  const graph::Node node = operators::testing::make_node("MaxPool", {{"kernel_shape", Ints{2, 2}}});
  const KernelSpec spec{
      .node = &node,
      .opset = 13,
      .inputs = {{.type = {float32, {1, 1, 4, 4}}}},
      .outputs = {{.type = {float32, {1, 1, 3, 3}}}, {.type = {int64, {1, 1, 3, 3}}}}};
  const auto kernel = make_cuda_kernel(spec, *gpu_.gpu);
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().message, HasSubstr("node node: MaxPool's indices"));
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
