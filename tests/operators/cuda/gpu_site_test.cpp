#include "operators/cuda/gpu_site.hpp"

#include <gmock/gmock.h>

#include "ipc/session.hpp"
#include "tests/ipc/host_device.hpp"
#include "tests/operators/cuda/host_gpu.hpp"

namespace opsplit::operators::cuda::testing {
namespace {

using ::testing::HasSubstr;

class GpuSiteTest : public ::testing::Test {
 protected:
  GpuSiteTest() {
    PlannedOperator& conv = plan.operators.emplace_back();
    conv.name = "conv";
    conv.gpu = 0;
  }

  Result<GpuSite> site() {
    return opened.site({plan, plan.operators[0], {}, {}, 1, weights, placement, &attachment},
                       {test::open_host_device, []() -> Result<std::unique_ptr<Gpu>> {
                          return std::make_unique<HostGpu>();
                        }});
  }

  Plan plan;
  HeapWeights weights;
  Affinity affinity;
  ThreadPlacement placement{affinity};
  ipc::Attachment attachment;
  OpenedGpu opened;
};

TEST_F(GpuSiteTest, AnOperatorWithoutAGpuIsToldWhereToGetOne) {
  EXPECT_THAT(site().error().message, HasSubstr("operator 'conv' has no GPU: give it one in"));
}

TEST_F(GpuSiteTest, AGpuThatIsNotHereIsRefused) {
  attachment.gpu.emplace();
  EXPECT_EQ(site().error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace opsplit::operators::cuda::testing
