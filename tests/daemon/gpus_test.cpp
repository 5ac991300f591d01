#include "daemon/gpus.hpp"

#include <gmock/gmock.h>

#include "daemon/preparation.hpp"
#include "graph/model.hpp"
#include "tests/daemon/temporary_folder.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::daemon {
namespace {

using testing::ElementsAre;
using testing::Pair;

constexpr auto uuid = "GPU-01234567-89ab-cdef-0123-456789abcdef";

GpuRequest on(const std::string& device) { return {device, std::nullopt, 0}; }

Deployment digits() {
  return Deployment::open(OPSPLIT_SOURCE_DIR "/examples/digits/digits.onnx").value();
}

const PlannedOperator& operator_of(const Planned& planned, std::string_view name) {
  const auto& operators = planned.plan.operators;
  return *std::ranges::find(operators, name, &PlannedOperator::name);
}

ipc::StreamPriority priority_of(const Planned& planned, std::string_view name) {
  return stream_priority(planned.deployment, planned.plan, operator_of(planned, name));
}

TEST(Gpus, AreNumberedWithoutAGapInTheOrderOfOperators) {
  Deployment deployment = digits();
  deployment.operators["conv"].gpu = on("3");
  deployment.operators["gemm"].gpu = on(uuid);
  deployment.operators["maxpool"].cores = 1;
  deployment.operators["relu"].gpu = on("3");
  EXPECT_THAT(number_gpus(deployment),
              ElementsAre(Pair("conv", 0), Pair("gemm", 1), Pair("relu", 0)));
}

TEST(Gpus, AreKnownByThePlansNumberAndTheFilesName) {
  Deployment deployment = digits();
  deployment.file = "digits.yaml";
  deployment.depth = 4;
  deployment.operators["conv"].gpu = GpuRequest{"3", std::nullopt, 7};
  deployment.operators["relu"].gpu = GpuRequest{"3", std::nullopt, 8};
  deployment.operators["gemm"].gpu = on(uuid);
  const Planned planned = graph::value_of(plan_deployment(deployment));
  const auto used = used_gpus(planned.deployment, planned.plan);
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(used[0].device, "3");
  EXPECT_EQ(used[0].where, "digits.yaml:7: operators.conv.gpu: 3");
  EXPECT_EQ(used[0].shape, (ipc::DeviceArenaShape{planned.plan.gpu_slot_bytes[0], 4}));
  EXPECT_GT(planned.plan.gpu_slot_bytes[0], gpu_alignment) << "conv hands tensors to relu there";
  EXPECT_EQ(used[1].where, fmt::format("operators.gemm.gpu: {}", uuid));
  EXPECT_EQ(used[1].shape, (ipc::DeviceArenaShape{gpu_alignment, 4}));
}

TEST(Gpus, ShortWorkGoesFirstWhereTheFileSaysNothing) {
  Deployment deployment = digits();
  for (const char* op : {"conv", "gemm", "relu"}) deployment.operators[op].gpu = on("0");
  Planned planned = graph::value_of(plan_deployment(deployment));
  EXPECT_EQ(priority_of(planned, "conv"), ipc::StreamPriority::normal);
  EXPECT_EQ(priority_of(planned, "relu"), ipc::StreamPriority::high);
  planned.deployment.operators["relu"].gpu->priority = ipc::StreamPriority::low;
  EXPECT_EQ(priority_of(planned, "relu"), ipc::StreamPriority::low);
}

TEST(Gpus, OneOperatorAloneIsNotShort) {
  Deployment deployment = digits();
  deployment.operators["relu"].gpu = on("0");
  EXPECT_EQ(priority_of(graph::value_of(plan_deployment(deployment)), "relu"),
            ipc::StreamPriority::normal);
}

TEST(Gpus, AnOperatorThereHasOneThreadAndNoPartOfTheCores) {
  Deployment deployment = digits();
  deployment.objective = Objective::throughput;
  deployment.operators["conv"].gpu = on("0");
  Planned planned = graph::value_of(plan_deployment(deployment));
  planned.topology = graph::value_of(Topology::synthetic("numa:1 core:16 pu:1"));
  const auto cores = graph::value_of(assign_cores(planned, planned.deployment));
  for (std::size_t op = 0; op < cores.size(); ++op) {
    if (planned.plan.operators[op].name != "conv") continue;
    EXPECT_EQ(cores[op].threads, 1);
    EXPECT_EQ(cores[op].cpus.size(), 1u) << "it costs most of all";
  }
}

// What opsplit has no kernels for on CPUs, float16 convolutions say, a GPU's may have.
TEST(Gpus, ItsOperatorIsNotGivenToAnotherBackend) {
  const TemporaryFolder folder;
  graph::ModelBuilder model;
  model.input("x", {2, 2}).output("y").node("Det", {"x"}, {"y"});
  model.save(folder.path() / "m.onnx");
  Deployment deployment = Deployment::for_model(folder.path() / "m.onnx");
  deployment.operators["det"].gpu = on("0");
  const Planned planned = graph::value_of(plan_deployment(deployment));
  EXPECT_EQ(settings_of(planned.deployment, "det").backend, Backend::native);
  EXPECT_TRUE(check_kernels(planned));
}

}  // namespace
}  // namespace opsplit::daemon
