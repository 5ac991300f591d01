#include "daemon/preparation.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include <fstream>
#include <map>

#include "graph/model.hpp"
#include "ipc/weight_store.hpp"
#include "tests/daemon/temporary_folder.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::daemon {
namespace {

using graph::ModelBuilder;
using testing::IsEmpty;
using testing::SizeIs;

ModelBuilder model_of(float weight) {
  ModelBuilder model;
  model.input("x", {"n", 64}).output("y").floats("w", {64, 64}, weight);
  model.node("MatMul", {"x", "w"}, {"y"});
  return model;
}

class PreparationTest : public testing::Test {
 protected:
  PreparationTest() { std::filesystem::create_directory(cache); }
  ~PreparationTest() override { static_cast<void>(ipc::WeightStore::remove(folder)); }

  Planned prepared(std::int64_t batch = 1, bool attach = false) {
    static_cast<void>(ipc::WeightStore::remove(folder));
    Deployment deployment = Deployment::open(model_file).value();
    deployment.shapes["x"] = Shape{batch, 64};
    deployment.attach = attach;
    return graph::value_of(prepare(std::move(deployment), folder, cache));
  }

  // As the only operator reads it.
  float weight(const Planned& planned) {
    const auto where = planned.weights_file.empty() ? folder : planned.weights_file.parent_path();
    const auto part =
        graph::value_of(graph::import_part(folder / planned.plan.operators.front().part, where));
    return part.value(part.find("w")).constant->as<float>().front();
  }

  // What lies in the cache: each file's inode, and its bytes.
  using Files = std::map<std::filesystem::path, std::pair<ino_t, std::string>>;
  Files cached() {
    Files files;
    for (const auto& entry : std::filesystem::directory_iterator(cache)) {
      struct stat info {};
      ::stat(entry.path().c_str(), &info);
      files[entry.path()] = {info.st_ino, read_file(entry.path()).value()};
    }
    return files;
  }

  const TemporaryFolder temporary;
  const std::filesystem::path model_file = temporary.path() / "model.onnx";
  const std::filesystem::path cache = temporary.path() / "cache";
  const std::filesystem::path folder = temporary.path() / "folder";
};

TEST_F(PreparationTest, WhatIsInTheCacheIsNotMadeAgain) {
  model_of(1).save(model_file);
  const Planned first = prepared();
  const Files files = cached();
  EXPECT_THAT(files, SizeIs(2));  // the weights, the graph
  const Planned second = prepared();
  EXPECT_EQ(cached(), files);
  EXPECT_EQ(digest(second.plan), digest(first.plan));
  EXPECT_EQ(weight(second), 1);
}

TEST_F(PreparationTest, AnotherModelOrShapeIsNotTakenForIt) {
  for (const float value : {1, 2, 1})
    for (const std::int64_t batch : {1, 2}) {
      model_of(value).save(model_file);
      const Planned planned = prepared(batch);
      EXPECT_EQ(weight(planned), value);
      EXPECT_EQ(planned.plan.tensors[0].type.shape[0], batch);
    }
  EXPECT_THAT(cached(), SizeIs(2 + 4));
}

TEST_F(PreparationTest, WeightsBesideTheModelAreReadEachTime) {
  ModelBuilder model = model_of(1);
  onnx::TensorProto& weights = *model.proto().mutable_graph()->mutable_initializer(0);
  weights.clear_float_data();
  weights.clear_raw_data();
  weights.set_data_location(onnx::TensorProto::EXTERNAL);
  auto* location = weights.add_external_data();
  location->set_key("location");
  location->set_value("weights");
  model.save(model_file);
  for (const float value : {1, 2}) {
    const std::vector<float> values(64UL * 64, value);
    std::ofstream(temporary.path() / "weights", std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
    EXPECT_EQ(weight(prepared()), value);
  }
  EXPECT_THAT(cached(), SizeIs(2));
}

TEST_F(PreparationTest, WhatIsDamagedInTheCacheIsMadeAnew) {
  model_of(1).save(model_file);
  prepared();
  const Files good = cached();
  for (const auto& [damaged, file] : good) {
    std::string bytes = file.second;
    bytes[bytes.size() - 100] ^= 1;
    std::filesystem::remove(damaged);
    std::ofstream(damaged, std::ios::binary) << bytes;
    EXPECT_EQ(weight(prepared()), 1);
    EXPECT_EQ(cached()[damaged].second, file.second);
  }
}

TEST_F(PreparationTest, WhatADeploymentNeedsForRestartsIsNotPruned) {
  model_of(1).save(model_file);
  {
    const Planned planned = prepared();
    ipc::prune_packed(cache, 0);
    EXPECT_THAT(cached(), SizeIs(1));
    EXPECT_EQ(weight(planned), 1);
  }
  ipc::prune_packed(cache, 0);
  EXPECT_THAT(cached(), IsEmpty());
}

TEST_F(PreparationTest, OperatorsThatAttachFindAllInTheFolder) {
  model_of(1).save(model_file);
  const Planned planned = prepared(1, /*attach=*/true);
  EXPECT_EQ(planned.weights_file, "");
  EXPECT_EQ(weight(planned), 1);
  EXPECT_THAT(cached(), IsEmpty());
}

TEST_F(PreparationTest, WithoutACacheAllIsInTheFolder) {
  model_of(1).save(model_file);
  std::filesystem::remove(cache);
  EXPECT_EQ(weight(prepared()), 1);
  EXPECT_FALSE(std::filesystem::exists(cache));
}

TEST(PlanDeployment, GivesToOnnxRuntimeWhatOpsplitHasNoKernelsFor) {
  const TemporaryFolder folder;
  ModelBuilder model;
  model.input("x", {2, 2}).output("y").node("Relu", {"x"}, {"a"});
  model.node("Det", {"a"}, {"b"}).node("Relu", {"b"}, {"y"});
  model.save(folder.path() / "m.onnx");
  Deployment deployment = Deployment::for_model(folder.path() / "m.onnx");
  Planned planned = graph::value_of(plan_deployment(deployment));
  EXPECT_EQ(settings_of(planned.deployment, "det").backend, Backend::onnxruntime);
  EXPECT_EQ(settings_of(planned.deployment, "relu").backend, Backend::native);
  EXPECT_THAT(planned.foreign_types, testing::ElementsAre(IsEmpty(), testing::ElementsAre("Det")));
  EXPECT_THAT(graph::error_of(check_backends(planned, folder.path())),
              testing::HasSubstr("operator 'det': opsplit has no kernels for Det: backend "
                                 "onnxruntime is not installed"));

  deployment.operators["det"].backend_given = true;
  planned = graph::value_of(plan_deployment(deployment));
  EXPECT_THAT(graph::error_of(check_backends(planned, folder.path())),
              testing::HasSubstr("no kernels for Det, and its backend is to be native"));

  deployment.operators["det"].backend = Backend::attach;
  planned = graph::value_of(plan_deployment(deployment));
  EXPECT_EQ(settings_of(planned.deployment, "det").backend, Backend::attach);
  EXPECT_TRUE(check_backends(planned, folder.path()));
}

// libonnx divides by the length of the pieces.
TEST(PlanDeployment, OutlivesAModelThatCrashesOnnxsRules) {
  const TemporaryFolder folder;
  ModelBuilder model;
  model.input("x", {4, 2}).output("y").ints("size", {0}).node("Squeeze", {"size"}, {"scalar"});
  model.node("SplitToSequence", {"x", "scalar"}, {"s"}, {}, "cut");
  model.node("ConcatFromSequence", {"s"}, {"y"}, {{"axis", std::int64_t{0}}});
  model.save(folder.path() / "m.onnx");
  EXPECT_THAT(graph::error_of(plan_deployment(Deployment::for_model(folder.path() / "m.onnx"))),
              testing::HasSubstr("node 'cut' (SplitToSequence): "));
}

}  // namespace
}  // namespace opsplit::daemon
