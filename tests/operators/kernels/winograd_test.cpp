#include "operators/kernels/winograd.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <utility>

#include "tests/operators/kernel_case.hpp"

namespace opsplit::operators::testing {
namespace {

using Ints = std::vector<std::int64_t>;

// Tiles of four go through numbers that are larger than the result.
constexpr double tolerance = 3e-5;

Convolution convolution_of(const KernelSpec& spec) {
  const auto convolution = read_convolution(
      *spec.node, spec.inputs[0].type, spec.inputs[1].type,
      spec.node->inputs.size() > 2 ? &spec.inputs[2].type : nullptr, spec.outputs[0].type);
  EXPECT_TRUE(convolution) << convolution.error().message;
  return *convolution;
}

struct Shapes {
  Shape input, weights;
  std::int64_t groups = 1;
};

KernelCase convolution(const Shapes& shapes, const Ints& pads = {1, 1, 1, 1}) {
  KernelCase test{.op_type = "Conv",
                  .inputs = {Arrives{shapes.input}, known_random(shapes.weights),
                             known_random({shapes.weights[0]}, 5)}};
  test.attributes["group"] = shapes.groups;
  test.attributes["pads"] = pads;
  test.layout = Layout::nhwc;
  return test;
}

// Each instruction set that this CPU has, with either size of tiles.
class Winograd : public ::testing::TestWithParam<std::pair<const char*, WinogradTile>> {
 protected:
  void SetUp() override {
    code_ =
        GetParam().first == std::string("avx2") ? winograd::avx2_code() : winograd::avx512_code();
    if (code_ == nullptr) GTEST_SKIP() << "this CPU has no " << GetParam().first;
  }

  void expect_right(KernelCase test) const {
    test.make = [this](const KernelSpec& spec, const KernelResources& resources) {
      const Convolution convolution = convolution_of(spec);
      EXPECT_TRUE(takes_winograd(spec, convolution, code_));
      return make_winograd(spec, convolution, GetParam().second, resources, *code_);
    };
    expect_equals_reference(test, tolerance);
  }
  [[nodiscard]] Layout blocked() const {
    return code_->vector == 8 ? Layout::nChw8c : Layout::nChw16c;
  }

  const winograd::Code* code_ = nullptr;
};

TEST_P(Winograd, SizesThatFillTilesAndVectorsAndSizesThatDoNot) {
  for (const Shapes& shapes :
       {Shapes{{1, 16, 8, 8}, {32, 16, 3, 3}}, Shapes{{2, 19, 13, 11}, {17, 19, 3, 3}},
        Shapes{{1, 24, 3, 3}, {40, 24, 3, 3}}, Shapes{{1, 8, 1, 1}, {8, 8, 3, 3}},
        Shapes{{1, 64, 30, 30}, {48, 64, 3, 3}}, Shapes{{1, 33, 5, 40}, {65, 33, 3, 3}}})
    expect_right(convolution(shapes));
}

TEST_P(Winograd, AnyPads) {
  for (const Ints& pads : {Ints{0, 0, 0, 0}, Ints{0, 1, 1, 0}, Ints{2, 2, 2, 2}, Ints{3, 0, 0, 4}})
    expect_right(convolution({{1, 9, 9, 10}, {20, 9, 3, 3}}, pads));
}

TEST_P(Winograd, Blocks) {
  KernelCase test = convolution({{2, 32, 10, 9}, {48, 32, 3, 3}});
  test.layout = blocked();
  expect_right(test);
  test = convolution({{1, 32, 6, 7}, {64, 16, 3, 3}, 2});
  test.layout = blocked();
  expect_right(test);
}

TEST_P(Winograd, Groups) {
  for (const Shapes& shapes :
       {Shapes{{1, 32, 9, 9}, {32, 16, 3, 3}, 2}, Shapes{{2, 30, 7, 7}, {27, 10, 3, 3}, 3}})
    expect_right(convolution(shapes));
}

TEST_P(Winograd, WithoutBias) {
  KernelCase test = convolution({{1, 16, 8, 8}, {16, 16, 3, 3}});
  test.inputs.pop_back();
  expect_right(test);
}

TEST_P(Winograd, AsManyThreadsAsWanted) {
  const int threads = omp_get_max_threads();
  for (const int wanted : {2, 3, 5}) {
    omp_set_num_threads(wanted);
    expect_right(convolution({{1, 16, 6, 6}, {96, 16, 3, 3}}));
    expect_right(convolution({{1, 16, 40, 40}, {32, 16, 3, 3}}));
  }
  omp_set_num_threads(threads);
}

TEST_P(Winograd, PostOpsOnTheWayAndAfterwards) {
  const PostOp relu = post_op(Activation{ActivationFunction::relu});
  const PostOp clip = post_op(Activation{ActivationFunction::clip, -0.5F, 0.75F});
  const PostOp sigmoid = post_op(Activation{ActivationFunction::sigmoid});
  const PostOp add = post_op(BinaryFunction::add, 0);
  for (const auto& ops :
       {std::vector{relu}, std::vector{clip}, std::vector{sigmoid}, std::vector{add},
        std::vector{add, relu}, std::vector{relu, add}, std::vector{sigmoid, add, clip}}) {
    KernelCase test = convolution({{1, 12, 9, 7}, {20, 12, 3, 3}});
    test.post_ops = ops;
    test.operands = {{1, 20, 9, 7}};
    expect_right(test);
  }
}

// What lies in the output already is added: the operand is put there first.
class AddedToOutput final : public Kernel {
 public:
  AddedToOutput(std::unique_ptr<Kernel> kernel, std::size_t operand)
      : kernel_(std::move(kernel)), operand_(operand) {}
  Result<> run(std::span<const TensorView> inputs,
               std::span<const MutableTensorView> outputs) override {
    const auto bytes = byte_size(outputs[0].type, outputs[0].layout);
    std::copy_n(inputs[operand_].data, *bytes, outputs[0].data);
    return kernel_->run(inputs, outputs);
  }

 private:
  std::unique_ptr<Kernel> kernel_;
  std::size_t operand_;
};

TEST_P(Winograd, SumWithItsOutput) {
  KernelCase test = convolution({{1, 12, 9, 7}, {20, 12, 3, 3}});
  test.post_ops = {post_op(BinaryFunction::add, 0), post_op(Activation{ActivationFunction::relu})};
  test.operands = {{1, 20, 9, 7}};
  test.make = [this](KernelSpec spec,
                     const KernelResources& resources) -> Result<std::unique_ptr<Kernel>> {
    spec.post_ops[0].kind = PostOp::Kind::sum;
    OPSPLIT_TRY(auto kernel,
                make_winograd(spec, convolution_of(spec), GetParam().second, resources, *code_));
    return std::make_unique<AddedToOutput>(std::move(kernel), spec.post_ops[0].operand);
  };
  expect_equals_reference(test, tolerance);
}

INSTANTIATE_TEST_SUITE_P(Tiles, Winograd,
                         ::testing::Values(std::pair{"avx2", WinogradTile::two},
                                           std::pair{"avx2", WinogradTile::four},
                                           std::pair{"avx512", WinogradTile::two},
                                           std::pair{"avx512", WinogradTile::four}),
                         [](const auto& tested) {
                           return std::string(tested.param.first) +
                                  (tested.param.second == WinogradTile::two ? "_two" : "_four");
                         });

TEST(WinogradTakes, OnlyWhatItIsFor) {
  const winograd::Code any{.vector = 8, .run = nullptr};
  const auto taken = [&](KernelCase test, const winograd::Code* code, bool known = true) {
    bool takes = false;
    test.make = [&](KernelSpec spec, const KernelResources& resources) {
      auto kernel = make_kernel(spec, resources);
      if (!known) spec.inputs[1].constant = nullptr;
      takes = takes_winograd(spec, convolution_of(spec), code);
      return kernel;
    };
    expect_equals_reference(test, tolerance);
    return takes;
  };
  const Shapes usual{{1, 16, 8, 8}, {16, 16, 3, 3}};
  EXPECT_TRUE(taken(convolution(usual), &any));
  EXPECT_FALSE(taken(convolution(usual), nullptr));
  EXPECT_FALSE(taken(convolution({{1, 4, 8, 8}, {16, 4, 3, 3}}), &any)) << "few channels";
  EXPECT_FALSE(taken(convolution({{1, 16, 8, 8}, {16, 16, 5, 5}}), &any));
  KernelCase row_major = convolution(usual);
  row_major.layout = Layout::row_major;
  EXPECT_FALSE(taken(row_major, &any));
  KernelCase wider = convolution(usual);
  wider.layout = Layout::nChw16c;
  EXPECT_FALSE(taken(wider, &any)) << "blocks of another size than the vector";
  KernelCase strided = convolution(usual);
  strided.attributes["strides"] = Ints{2, 1};
  EXPECT_FALSE(taken(strided, &any));
  KernelCase dilated = convolution(usual);
  dilated.attributes["dilations"] = Ints{1, 2};
  EXPECT_FALSE(taken(dilated, &any));
  EXPECT_FALSE(taken(convolution(usual), &any, false)) << "weights that arrive";
}

}  // namespace
}  // namespace opsplit::operators::testing
