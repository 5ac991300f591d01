#include <gmock/gmock.h>

#include <opsplit/harness.hpp>

namespace opsplit::sdk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

// y = factor * x + bias, where a bias is there.
class Scale : public Kernel {
 public:
  explicit Scale(const Node& node) : factor_(node.real("factor", 1)) {
    if (node.inputs.size() != 2) throw std::runtime_error("two inputs, one may be absent");
    if (node.inputs[1].constant.present()) bias_ = node.inputs[1].constant.as<float>()[0];
  }
  void run(Inputs inputs, Outputs outputs) override {
    const auto x = inputs[0].as<float>();
    const auto y = outputs[0].as<float>();
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = factor_ * x[i] + bias_;
  }

 private:
  float factor_, bias_ = 0;
};

TEST(Harness, FeedsAKernel) {
  Harness harness({.op_type = "Scale", .attributes = {{"factor", 2.0F}}});
  harness.input<float>({1, 3}, {1, 2, 3});
  harness.constant<float>({1}, {10});
  harness.output<float>({1, 3});
  harness.run(make<Scale>);
  EXPECT_THAT(harness.result<float>(0), ElementsAre(12, 14, 16));
}

TEST(Harness, AnInputMayBeAbsentAndAnAttributeHasADefault) {
  Harness harness({.op_type = "Scale"});
  harness.input<float>({2}, {1, 2});
  harness.absent_input();
  harness.output<float>({2});
  harness.run(make<Scale>);
  harness.run(make<Scale>);
  EXPECT_THAT(harness.result<float>(0), ElementsAre(1, 2));
}

TEST(Harness, SaysWhatDoesNotFit) {
  Harness harness({.op_type = "Scale"});
  EXPECT_THAT(
      [&] {
        harness.input<float>({2, 3}, {1, 2});
      },
      ThrowsMessage<std::invalid_argument>(HasSubstr("input 0: 2 values")));
  harness.input<std::int64_t>({2}, {1, 2});
  harness.output<float>({2});
  EXPECT_THAT([&] { harness.run(make<Scale>); },
              ThrowsMessage<std::runtime_error>(HasSubstr("two inputs")));
  harness.absent_input();
  EXPECT_THAT([&] { harness.run(make<Scale>); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("a tensor is int64")));
  EXPECT_THAT([&] { (void)harness.result<double>(0); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("a tensor is float32")));
}

class Wild : public Kernel {
 public:
  explicit Wild(const Node& node) : offset_(node.integer("offset", 0)) {}
  void run(Inputs inputs, Outputs outputs) override {
    if (offset_ < 0)
      const_cast<float*>(inputs[0].as<float>().data())[0] = 1;
    else
      outputs[0].as<float>().data()[offset_] = 1;
  }

 private:
  std::int64_t offset_;
};

void run_wild(std::int64_t offset) {
  Harness harness({.op_type = "Wild", .attributes = {{"offset", offset}}});
  harness.input<float>({16}, std::vector<float>(16));
  harness.output<float>({16});
  harness.run(make<Wild>);
}

TEST(HarnessDeathTest, AKernelThatGoesTooFarEnds) {
  run_wild(15);
  EXPECT_DEATH(run_wild(16), "");
  EXPECT_DEATH(run_wild(-1), "") << "inputs are read-only";
}

}  // namespace
}  // namespace opsplit::sdk
