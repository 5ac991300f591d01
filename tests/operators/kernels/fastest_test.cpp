#include "operators/kernels/fastest.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include <vector>

namespace opsplit::operators::testing {
namespace {

// Kernels whose time passes on a clock of the test's.
class Fastest : public ::testing::Test {
 protected:
  class Fake final : public Kernel {
   public:
    Fake(std::uint64_t& now, std::uint64_t takes) : now_(now), takes_(takes) {}
    Result<> run(std::span<const TensorView>, std::span<const MutableTensorView> outputs) override {
      EXPECT_NE(outputs[0].data, nullptr);
      EXPECT_EQ(omp_get_max_threads(), 1);
      now_ += takes_;
      return {};
    }

   private:
    std::uint64_t& now_;
    std::uint64_t takes_;
  };

  MakeCandidate takes(std::uint64_t ns) {
    return [this, ns](const KernelResources&) -> Result<std::unique_ptr<Kernel>> {
      ++made_;
      return std::make_unique<Fake>(now_, ns);
    };
  }
  static MakeCandidate impossible() {
    return [](const KernelResources&) -> Result<std::unique_ptr<Kernel>> {
      return fail(ErrorCode::invalid_input, "no such kernel");
    };
  }
  std::size_t ask(const std::vector<MakeCandidate>& candidates) {
    return fastest(spec_, candidates, [this] { return now_; });
  }

  KernelSpec spec_{.outputs = {{.type = {float32, {4}}}}};
  std::uint64_t now_ = 0;
  int made_ = 0;
};

TEST_F(Fastest, TheOneThatTakesTheLeastTime) {
  EXPECT_EQ(ask({takes(500), takes(300), takes(400)}), 1u);
  EXPECT_EQ(ask({takes(500), takes(300), takes(200)}), 2u);
  EXPECT_EQ(ask({takes(100)}), 0u);
}

TEST_F(Fastest, ALaterOneMustBeClearlyFaster) {
  EXPECT_EQ(ask({takes(1000), takes(980)}), 0u);
  EXPECT_EQ(ask({takes(1000), takes(900)}), 1u);
}

TEST_F(Fastest, OneThatCannotBeMadeIsNone) {
  EXPECT_EQ(ask({impossible(), takes(900)}), 1u);
  EXPECT_EQ(ask({takes(900), impossible()}), 0u);
}

TEST_F(Fastest, AskingEndsInTimeAndLeavesTheThreadsAlone) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(2);
  EXPECT_EQ(ask({takes(5'000'000'000), takes(1'000'000'000)}), 1u);
  EXPECT_LT(now_, 60'000'000'000u);
  EXPECT_EQ(omp_get_max_threads(), 2);
  omp_set_num_threads(threads);
}

TEST_F(Fastest, IsAskedOnceForAKey) {
  HeapWeights weights;
  const std::vector<MakeCandidate> candidates{takes(10), takes(20)};
  const auto first = kept_fastest("a", spec_, candidates, weights);
  ASSERT_TRUE(first);
  const int made = std::exchange(made_, 0);
  EXPECT_EQ(made, 2);
  EXPECT_EQ(kept_fastest("a", spec_, candidates, weights).value(), *first);
  EXPECT_EQ(made_, 0);
  EXPECT_TRUE(kept_fastest("b", spec_, candidates, weights));
  EXPECT_EQ(made_, 2);
}

}  // namespace
}  // namespace opsplit::operators::testing
