#include <array>
#include <random>

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/elementwise_body.hpp"
#include "tests/operators/cuda/cuda_case.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

class Elementwise : public CudaKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cuda, Elementwise, everywhere, name_of);

TEST_P(Elementwise, Activations) {
  for (const char* op : {"Relu", "Sigmoid", "Tanh", "Exp", "Erf", "Abs", "Neg", "HardSigmoid"})
    for (const Shape& shape : {Shape{}, Shape{7}, Shape{2, 3, 8, 8}, Shape{3, 1, 5}}) {
      SCOPED_TRACE(op);
      expect_reference({op, {given(shape)}});
    }
  expect_reference({"HardSwish", {given({5, 8})}, {}, 14});
  expect_reference({"LeakyRelu", {given({5, 8})}, {{"alpha", 0.3F}}});
  expect_reference({"Elu", {given({40})}, {{"alpha", 0.5F}}});
  expect_reference({"Elu", {known({9})}});  // one that is not folded
  for (const char* op : {"Log", "Sqrt"}) expect_reference({op, {positive({2, 33})}});
}

TEST_P(Elementwise, ClipByAttributesConstantsAndTensors) {
  expect_reference({"Clip", {given({6, 7})}, {{"min", -0.25F}, {"max", 0.5F}}, 6});
  expect_reference({"Clip", {given({6, 7}), known({}), positive({})}, {}, 11});
  expect_reference({"Clip", {given({6, 8}), given({}), absent()}});
  expect_reference({"Clip", {given({6, 8}), absent(), given({})}});
  expect_reference({"Clip", {given({6, 8}), absent(), absent()}});
}

TEST_P(Elementwise, ArithmeticWithNumbers) {
  for (const char* op : {"Add", "Sub", "Mul", "Div"}) {
    SCOPED_TRACE(op);
    expect_reference({op, {given({3, 8}), known({})}});
    expect_reference({op, {known({1}), positive({3, 5})}});
  }
}

// A shape, and one that is broadcast to it: each axis may be 1, and leading ones missing.
std::pair<Shape, Shape> random_shapes(std::mt19937& random) {
  std::uniform_int_distribution<std::size_t> ranks(1, 5);
  std::uniform_int_distribution<std::int64_t> sizes(1, 9);
  std::vector<std::int64_t> whole, part;
  for (std::size_t axis = ranks(random); axis > 0; --axis) {
    whole.push_back(random() % 3 == 0 ? 8 : sizes(random));
    part.push_back(random() % 3 == 0 ? 1 : whole.back());
  }
  const auto missing = static_cast<std::ptrdiff_t>(random() % (part.size() + 1));
  part.erase(part.begin(), part.begin() + missing);
  return {*Shape::from(whole), *Shape::from(part)};
}

TEST_P(Elementwise, ArithmeticBroadcastsAnyShape) {
  std::mt19937 random(5);
  constexpr std::array ops{"Add", "Sub", "Mul", "Div", "Max", "Min"};
  for (int i = 0; i < 60; ++i) {
    const auto [whole, part] = random_shapes(random);
    const std::string op = ops[random() % ops.size()];
    SCOPED_TRACE(op + " " + to_string(whole) + " " + to_string(part));
    expect_reference({op, {given(whole), positive(part)}});
    expect_reference({op, {given(part), positive(whole)}});
  }
  expect_reference({"Add", {given({4, 1}), given({1, 8})}});  // neither has the result's shape
  expect_reference({"Mul", {given({2, 1, 3, 1}), given({5, 1, 8})}});
}

TEST_P(Elementwise, SumsOfSeveral) {
  expect_reference({"Sum", {given({4, 8}), given({8}), given({4, 1}), given({})}});
  expect_reference({"Sum", {given({3, 5})}});
}

TEST_P(Elementwise, PostOps) {
  expect_reference({.op_type = "Add",
                    .inputs = {given({2, 3, 4, 4}), given({3, 1, 1})},
                    .post_ops = {post_op(BinaryFunction::multiply, 0),
                                 post_op(Activation{ActivationFunction::leaky_relu, 0.1F, 0}),
                                 post_op(BinaryFunction::subtract, 0)},
                    .operands = {{2, 3, 4, 4}, {4}}});
}

TEST_P(Elementwise, BatchNormalization) {
  for (const Shape& shape : {Shape{2, 5, 4, 4}, Shape{3, 7}, Shape{1, 4, 3, 5}, Shape{2, 3, 8}}) {
    const Shape channels{shape[1]};
    expect_reference(
        {"BatchNormalization",
         {given(shape), given(channels), known(channels), given(channels), positive(channels)},
         {{"epsilon", 0.01F}},
         9});
  }
}

TEST_P(Elementwise, BatchNormalizationWithFloat32Parameters) {
  CudaCase test{"BatchNormalization",
                {given({2, 5, 4, 4}), given({5}), given({5}), given({5}), positive({5})},
                {},
                15};
  for (std::size_t i = 1; i < 5; ++i) test.inputs[i].is_float32 = true;
  expect_reference(test);
}

// Between the two types, at sizes with and without a rest.
TEST_P(Elementwise, Casts) {
  const DType to = GetParam().dtype;
  const DType from = to == float32 ? float16 : float32;
  for (const std::int64_t size : {1, 3, 8, 1024, 1027}) {
    SCOPED_TRACE(size);
    const Tensor x = operators::testing::random_tensor({size}, 3);
    const auto bytes = as_bytes(x, from);
    const graph::Node node = operators::testing::make_node("Cast");
    const KernelSpec spec{.node = &node,
                          .opset = 13,
                          .inputs = {{.type = {from, x.type().shape}}},
                          .outputs = {{.type = {to, x.type().shape}}}};
    const auto kernel = make_cuda_kernel(spec, *gpu_.gpu);
    ASSERT_TRUE(kernel) << kernel.error().message;
    const auto input = to_device(*gpu_.gpu, bytes);
    std::vector<std::byte> result(x.values().size() * to.bytes());
    const auto output = to_device(*gpu_.gpu, result);
    const DeviceView x_view{spec.inputs[0].type, input.get()};
    const MutableDeviceView y_view{spec.outputs[0].type, output.get()};
    const auto done = (*kernel)->launch({&x_view, 1}, {&y_view, 1}, nullptr, nullptr);
    ASSERT_TRUE(done) << done.error().message;
    from_device(gpu_, result, output.get());
    const Tensor expected = from_bytes(bytes, spec.inputs[0].type);
    operators::testing::expect_near(from_bytes(result, spec.outputs[0].type), expected,
                                    to == float32 ? 0 : 5e-4);
  }
}

// 64-bit indices: where they do not fit into 32, coordinates are those that whole numbers give.
TEST(Coordinates, OfElementsBeyondFourBillion) {
  const std::int64_t dims[] = {3, std::int64_t{1} << 33, 5};
  for (const std::int64_t index :
       {std::int64_t{0}, std::int64_t{4'294'967'295}, std::int64_t{4'294'967'296},
        5 * (std::int64_t{1} << 33) + 7, 3 * 5 * (std::int64_t{1} << 33) - 1}) {
    std::int64_t at[3];
    coordinates_of(index, dims, 3, at);
    EXPECT_EQ(at[2], index % 5) << index;
    EXPECT_EQ(at[1], index / 5 % dims[1]) << index;
    EXPECT_EQ(at[0], index / 5 / dims[1]) << index;
  }
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
