#include <gmock/gmock.h>

#include "graph/split_steps.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// conv1 relu1 pool1 conv2 relu2 flatten gemm softmax: nodes 0 to 7, 5 is a view.
class ByHandTest : public testing::Test {
 protected:
  Result<std::vector<OperatorNodes>> split_by(std::vector<ByHand::Group> groups) {
    return split(graph_, ByHand{std::move(groups)});
  }
  Graph graph_ = value_of(small_cnn().load());
};

TEST_F(ByHandTest, NamesRangesAndTypes) {
  const auto operators = value_of(split_by({{"convs", {}, {"Conv"}},
                                            {"head", {"flatten..softmax"}, {}},
                                            {"rest", {"pool1"}, {"Relu"}}}));
  ASSERT_EQ(operators.size(), 3U);
  EXPECT_EQ(operators[0].name, "convs");
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0), ElementsAre(3)));
  EXPECT_THAT(operators[1].tasks, ElementsAre(ElementsAre(6, 7)));
  EXPECT_THAT(operators[2].tasks, ElementsAre(ElementsAre(1, 2), ElementsAre(4)));
}

TEST_F(ByHandTest, ANameGoesBeforeAType) {
  const auto operators =
      value_of(split_by({{"first", {"conv1"}, {}}, {"rest", {"relu1..softmax"}, {"Conv"}}}));
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0)));
  EXPECT_THAT(operators[1].tasks, ElementsAre(ElementsAre(1, 2, 3, 4, 6, 7)));
}

TEST_F(ByHandTest, SaysWhatIsWrong) {
  EXPECT_THAT(error_of(split_by({{"a", {"conv1..relu2"}, {}}})),
              HasSubstr("node 'gemm' (Gemm) belongs to no operator"));
  EXPECT_THAT(error_of(split_by({{"a", {"conv1..softmax"}, {}}, {"b", {"relu1"}, {}}})),
              HasSubstr("node 'relu1' is claimed by operator 'a' and by 'b'"));
  EXPECT_THAT(error_of(split_by({{"a", {}, {"Conv"}}, {"b", {}, {"Conv"}}})),
              HasSubstr("claimed by operator 'a'"));
  EXPECT_THAT(error_of(split_by({{"a", {"bn2"}, {}}})),
              HasSubstr("operator 'a': no node 'bn2' (it may have been folded"));
  EXPECT_THAT(error_of(split_by({{"a", {"relu1..bn2"}, {}}})), HasSubstr("no node 'relu1..bn2'"));
  EXPECT_THAT(error_of(split_by({{"a", {"relu2..relu1"}, {}}})),
              HasSubstr("'relu2..relu1' is empty"));
  EXPECT_THAT(
      error_of(split_by({{"a", {}, {"Convolution"}}})),
      HasSubstr("no node of type 'Convolution'; there are: Conv, Gemm, MaxPool, Relu, Softmax"));
  EXPECT_THAT(error_of(split_by({{"a", {"conv1..softmax"}, {}}, {"b", {"flatten"}, {}}})),
              HasSubstr("claimed"));
  EXPECT_THAT(error_of(split_by({{"A b", {"conv1..softmax"}, {}}})),
              HasSubstr("operator 'A b': a name is"));
  EXPECT_THAT(error_of(split_by({{"a", {"conv1"}, {}}, {"a", {"relu1..softmax"}, {}}})),
              HasSubstr("two operators 'a'"));
  EXPECT_THAT(error_of(split_by({{"a", {"conv1..softmax"}, {}}, {"b", {}, {}}})),
              HasSubstr("operator 'b' has no nodes"));
}

// x -> a -> b -> c, and a -> c: with a and c in one operator and b in another, a and c can't be one
// task, because b must run between them.
TEST(JoinConnected, MakesNoCycle) {
  ModelBuilder model;
  model.input("x", {1})
      .output("c")
      .node("Relu", {"x"}, {"a"}, {}, "a")
      .node("Tanh", {"a"}, {"b"}, {}, "b");
  model.node("Add", {"a", "b"}, {"c"}, {}, "c");
  const Graph graph = value_of(model.load());
  const auto operators =
      value_of(split(graph, ByHand{{{"outer", {"a", "c"}, {}}, {"inner", {"b"}, {}}}}));
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0), ElementsAre(2)));
}

TEST(JoinConnected, NodesThatAreNotConnectedStaySeparate) {
  ModelBuilder model;
  model.input("x", {1})
      .output("a")
      .output("b")
      .node("Relu", {"x"}, {"a"}, {}, "a")
      .node("Tanh", {"x"}, {"b"}, {}, "b");
  const auto operators =
      value_of(split(value_of(model.load()), ByHand{{{"both", {"a", "b"}, {}}}}));
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0), ElementsAre(1)));
}

TEST(JoinConnected, ConnectsThroughViews) {
  ModelBuilder model;
  model.input("x", {2, 3})
      .output("b")
      .node("Relu", {"x"}, {"a"}, {}, "a")
      .node("Flatten", {"a"}, {"f"}, {{"axis", std::int64_t{0}}});
  model.node("Tanh", {"f"}, {"b"}, {}, "b");
  const auto operators =
      value_of(split(value_of(model.load()), ByHand{{{"both", {"a", "b"}, {}}}}));
  EXPECT_THAT(operators[0].tasks, ElementsAre(ElementsAre(0, 2)));
}

}  // namespace
}  // namespace opsplit::graph
