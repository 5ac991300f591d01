#include "daemon/compose.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <fstream>

#include "base/system.hpp"
#include "tests/daemon/temporary_folder.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::daemon {
namespace {

using graph::ModelBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::filesystem::path source = OPSPLIT_SOURCE_DIR;

// In the repository, as whoever types the command is.
class ComposeFileTest : public testing::Test {
 protected:
  ComposeFileTest() { std::filesystem::current_path(source); }
  ~ComposeFileTest() override { std::filesystem::current_path(before_); }

  static Result<std::string> text(const Target& target, const ComposeOptions& options) {
    OPSPLIT_TRY(Deployment deployment, Deployment::open(target));
    OPSPLIT_TRY(const Planned planned, plan_deployment(std::move(deployment)));
    return compose_file(planned, target, options);
  }
  static YAML::Node services(const Target& target, ComposeOptions options = {}) {
    if (options.folder.empty()) options.folder = source;
    const auto written = text(target, options);
    EXPECT_TRUE(written) << written.error().message;
    return YAML::Load(written.value_or("services: {}"))["services"];
  }
  // A deployment file in a folder of its own.
  Target deployment(const std::string& content, const std::string& name = "d.yaml") {
    std::ofstream(folder_.path() / name) << content;
    return {.path = std::filesystem::proximate(folder_.path() / name)};
  }
  static std::vector<std::string> list(const YAML::Node& node) {
    return node.as<std::vector<std::string>>();
  }

  TemporaryFolder folder_;

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
};

// What a service is after all merges.
YAML::Node member(const YAML::Node& service, const char* name) {
  if (service[name]) return service[name];
  return service["<<"] ? member(service["<<"], name) : YAML::Node(YAML::NodeType::Undefined);
}

// The GPUs that NVIDIA's runtime shows to its containers; "": they have another runtime.
std::string seen_gpus(const YAML::Node& service) {
  const YAML::Node runtime = member(service, "runtime");
  if (!runtime) return "";
  EXPECT_EQ(runtime.as<std::string>(), "nvidia");
  return member(service, "environment")["NVIDIA_VISIBLE_DEVICES"].as<std::string>();
}

const Target digits{.path = "examples/digits/digits.yaml"};
const std::string model = source / "examples/digits/digits.onnx";

TEST_F(ComposeFileTest, TheOneInTheRepositoryIsThatOfTheDigits) {
  const auto written = text(digits, {.folder = source, .build_context = "."});
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(*written, read_file(source / "compose.ipc.yaml"))
      << "opsplit export compose examples/digits/digits.yaml --build . -o compose.ipc.yaml";
}

TEST_F(ComposeFileTest, TheOneInExamplesFrameworksIsThatOfItsDeploymentFile) {
  const std::filesystem::path folder = "examples/frameworks";
  const auto written =
      text({.path = folder / "frameworks.yaml"},
           {.folder = source / folder, .build_context = ".", .ipc = IpcNamespace::own});
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(*written, read_file(source / folder / "compose.yaml"))
      << "opsplit export compose examples/frameworks/frameworks.yaml --build . --ipc own -o "
         "examples/frameworks/compose.yaml";
}

TEST_F(ComposeFileTest, EveryOperatorIsAServiceThatAttaches) {
  const auto found = services(digits);
  for (const char* op : {"conv", "relu", "maxpool", "gemm", "softmax"})
    EXPECT_THAT(list(found[op]["command"]),
                ElementsAre("--deployment", "digits", "--operator", op));
  EXPECT_THAT(list(found["opsplitd"]["command"]), testing::Contains("--attach"));
}

TEST_F(ComposeFileTest, InstancesAreContainersOfOneService) {
  const auto found =
      services(deployment("model: " + model + "\nname: a\noperators:\n  conv: {instances: 3}\n"));
  EXPECT_EQ(found["conv"]["scale"].as<int>(), 3);
  EXPECT_FALSE(found["relu"]["scale"]);
}

TEST_F(ComposeFileTest, AnotherBackendIsAnotherImageWithRoomForTheFramework) {
  const auto found = services(
      deployment("model: " + model + "\nname: a\noperators:\n  gemm: {backend: onnxruntime}\n"),
      {.build_context = source});
  const YAML::Node conv = found["conv"]["<<"];  // what they are merged with
  const YAML::Node gemm = found["gemm"]["<<"];
  EXPECT_EQ(conv["image"].as<std::string>(), "opsplit/operator");
  EXPECT_EQ(gemm["image"].as<std::string>(), "opsplit/operator-onnxruntime");
  EXPECT_EQ(gemm["build"]["target"].as<std::string>(), "operator-onnxruntime");
  EXPECT_TRUE(gemm["<<"].is(conv)) << "hardened and joined as the others are";
  EXPECT_THAT(list(found["gemm"]["command"]),
              ElementsAre("--deployment", "a", "--operator", "gemm"));
  EXPECT_GE(std::stoul(gemm["mem_limit"].as<std::string>()),
            std::stoul(conv["mem_limit"].as<std::string>()) + 256);
}

TEST_F(ComposeFileTest, WhoeverAttachesHasNoServiceAndNobodyWaitsForTheirImage) {
  const Target target = deployment("model: " + model + "\noperators:\n  relu: {backend: attach}\n");
  const auto found = services(target);
  EXPECT_FALSE(found["relu"]);
  EXPECT_TRUE(found["conv"]);
  EXPECT_THAT(text(target, {.folder = source}).value(),
              HasSubstr("  # relu: backend attach, another container's to be\n"));
  EXPECT_THAT(compose_images(Deployment::open(target).value()),
              ElementsAre("opsplit/operator", "opsplit/opsplitd"));
}

TEST_F(ComposeFileTest, WhatOpsplitHasNoKernelsForIsOnnxRuntimesUnlessTheFileSaysNative) {
  ModelBuilder foreign;
  foreign.input("x", {2, 2}).output("y").node("Relu", {"x"}, {"a"}).node("Det", {"a"}, {"y"});
  foreign.save(folder_.path() / "m.onnx");
  const Target given = deployment("model: m.onnx\nsplit: by-type\n");
  EXPECT_EQ(services(given)["det"]["<<"]["image"].as<std::string>(),
            "opsplit/operator-onnxruntime");
  const Planned planned = plan_deployment(Deployment::open(given).value()).value();
  EXPECT_THAT(compose_images(planned.deployment),
              testing::Contains("opsplit/operator-onnxruntime"));
  const auto refused =
      text(deployment("model: m.onnx\nsplit: by-type\noperators:\n  det: {backend: native}\n"),
           {.folder = source});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("opsplit has no kernels for Det"));
}

TEST_F(ComposeFileTest, InTheRepositoryThatIsBuiltAllPathsAreRelative) {
  const std::filesystem::path folder = source / "examples/custom-kernel";
  const auto found = services(digits, {.folder = folder, .build_context = "."});
  EXPECT_EQ(found["conv"]["<<"]["build"]["context"].as<std::string>(), "../..");
  EXPECT_THAT(list(found["opsplitd"]["volumes"]),
              ElementsAre("tmp:/tmp", "../digits:/deployment:ro"));
  EXPECT_THAT(list(services(digits, {.folder = folder})["opsplitd"]["volumes"]),
              ElementsAre("tmp:/tmp", (source / "examples/digits").string() + ":/deployment:ro"));
}

TEST_F(ComposeFileTest, AnOperatorThatIsCalledLikeAServiceOfOursIsRenamed) {
  const auto found = services(deployment("model: " + model +
                                         "\noperators:\n"
                                         "  broker: {ops: [Conv, Relu, MaxPool, Flatten]}\n"
                                         "  rest: {ops: [Gemm, Softmax]}\n"));
  EXPECT_THAT(list(found["operator-broker"]["command"]), testing::Contains("broker"));
  EXPECT_EQ(list(found["broker"]["command"])[0], "opsplit-broker");
}

TEST_F(ComposeFileTest, WhatTheCommandLineSaysReachesOpsplitd) {
  const auto found = services({.path = "examples/digits/digits.onnx",
                               .split = "stages:2",
                               .name = "second",
                               .shapes = {"image=1,1,8,8"}});
  EXPECT_THAT(list(found["opsplitd"]["command"]),
              ElementsAre("opsplitd", "--broker", "/tmp/opsplit-10001/broker.sock", "--up",
                          "/deployment/digits.onnx", "--attach", "--split", "stages:2", "--name",
                          "second", "--shape", "image=1,1,8,8"));
  EXPECT_TRUE(found["stage2"]);
}

TEST_F(ComposeFileTest, AModelElsewhereIsMountedWhereTheDeploymentFileLooksForIt) {
  const std::string absolute = source / "examples/digits";
  EXPECT_THAT(list(services(deployment("model: " + model + "\n"))["opsplitd"]["volumes"]),
              testing::Contains("./examples/digits:" + absolute + ":ro"));
  std::filesystem::create_directories(folder_.path() / "models");
  std::filesystem::create_directories(folder_.path() / "files");
  std::filesystem::copy(model, folder_.path() / "models/digits.onnx");
  EXPECT_THAT(list(services(deployment("model: ../models/digits.onnx\n",
                                       "files/d.yaml"))["opsplitd"]["volumes"]),
              testing::Contains((folder_.path() / "models").string() + ":/models:ro"));
  EXPECT_THAT(list(services(deployment("model: models/digits.onnx\n"))["opsplitd"]["volumes"]),
              ElementsAre("tmp:/tmp", folder_.path().string() + ":/deployment:ro"));
  const auto refused =
      text(deployment("model: ../digits.onnx\n", "models/d.yaml"), {.folder = source});
  EXPECT_FALSE(refused);
}

TEST_F(ComposeFileTest, NamesThatComposeOrYamlWouldReadOtherwiseAreQuoted) {
  std::filesystem::create_directories(folder_.path() / "a $x; y");
  std::filesystem::copy(model, folder_.path() / "a $x; y/digits.onnx");
  const auto found = services(
      {.path = std::filesystem::proximate(folder_.path() / "a $x; y/digits.onnx"), .name = "12"});
  EXPECT_THAT(list(found["opsplitd"]["volumes"]),
              testing::Contains(folder_.path().string() + "/a $$x; y:/deployment:ro"));
  EXPECT_EQ(found["conv"]["command"][1].Tag(), "!") << "12 is text";
  for (const char* name : {"on", "no", "true", "null", "0x10", "1_0", "1e3", "-"})
    EXPECT_EQ(services({.path = model, .name = name})["conv"]["command"][1].Tag(), "!") << name;
}

TEST_F(ComposeFileTest, ASystemFolderIsMountedIntoNoContainer) {
  Deployment read = Deployment::open(digits).value();
  const Planned planned = plan_deployment(std::move(read)).value();
  for (const char* path : {"/model.onnx", "/run/model.onnx", "/var/run/model.onnx"}) {
    const auto refused =
        compose_file(planned, {.path = std::filesystem::proximate(path)}, {.folder = source});
    ASSERT_FALSE(refused) << path;
    EXPECT_THAT(refused.error().message, HasSubstr("is no folder to be seen by a container"));
  }
}

TEST_F(ComposeFileTest, AnIpcNamespaceHasRoomForTheArenasOfTwoEpochs) {
  Deployment read = Deployment::open(digits).value();
  Planned planned = plan_deployment(std::move(read)).value();
  planned.arena_bytes = 480u << 20;
  const auto written = compose_file(planned, digits, {.folder = source, .ipc = IpcNamespace::own});
  ASSERT_TRUE(written);
  const std::string size = YAML::Load(*written)["services"]["anchor"]["shm_size"].as<std::string>();
  EXPECT_GE(std::stoul(size), 2u * (480 + 67) + 2) << size;
}

TEST_F(ComposeFileTest, AFolderThatComposeCannotMountIsRefused) {
  std::filesystem::create_directories(folder_.path() / "a:b");
  std::filesystem::copy(model, folder_.path() / "a:b/digits.onnx");
  const auto refused = text(
      {.path = std::filesystem::proximate(folder_.path() / "a:b/digits.onnx")}, {.folder = source});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("can mount no folder with a ':'"));
}

TEST_F(ComposeFileTest, AnIpcNamespaceOfTheirOwnIsTheAnchors) {
  const auto written = text(digits, {.folder = source, .ipc = IpcNamespace::own});
  ASSERT_TRUE(written);
  const YAML::Node file = YAML::Load(*written);
  EXPECT_EQ(file["services"]["anchor"]["ipc"].as<std::string>(), "shareable");
  EXPECT_TRUE(file["services"]["anchor"]["shm_size"]);
  EXPECT_EQ(file["x-joined"]["ipc"].as<std::string>(), "service:anchor");
  EXPECT_THAT(*written, Not(HasSubstr("ipc: host")));
}

constexpr const char* uuid = "GPU-01234567-89ab-cdef-0123-456789abcdef";
constexpr const char* other_uuid = "GPU-11234567-89ab-cdef-0123-456789abcdef";

TEST_F(ComposeFileTest, TheOneWithAGpuInTheRepositoryIsThatOfItsDeploymentFile) {
  const auto written =
      text({.path = "examples/digits/digits-cuda.yaml"}, {.folder = source, .build_context = "."});
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(*written, read_file(source / "compose.cuda.yaml"))
      << "opsplit export compose examples/digits/digits-cuda.yaml --build . -o compose.cuda.yaml";
}

TEST_F(ComposeFileTest, AnOperatorOnAGpuSeesThatOneAndMayDoNoMoreThanTheOthers) {
  const auto found =
      services(deployment("model: " + model + "\nname: a\noperators:\n  conv: {gpu: 1}\n" +
                          "  gemm: {gpu: 0, instances: 2}\n  relu: {gpu: 1}\n"),
               {.build_context = source});
  EXPECT_EQ(seen_gpus(found["conv"]), "1");
  EXPECT_EQ(seen_gpus(found["relu"]), "1");
  EXPECT_EQ(seen_gpus(found["gemm"]), "0");
  EXPECT_EQ(found["gemm"]["scale"].as<int>(), 2);
  EXPECT_EQ(seen_gpus(found["opsplitd"]), "0,1") << "the owner of their memory is there";
  for (const char* none : {"anchor", "broker", "maxpool", "softmax"}) {
    EXPECT_EQ(seen_gpus(found[none]), "") << none;
    EXPECT_FALSE(member(found[none], "environment")) << none;
  }
  EXPECT_EQ(member(found["conv"], "image").as<std::string>(), "opsplit/operator-cuda");
  EXPECT_EQ(member(found["conv"], "build")["target"].as<std::string>(), "operator-cuda");
  EXPECT_EQ(member(found["opsplitd"], "image").as<std::string>(), "opsplit/opsplitd-cuda");
  EXPECT_EQ(member(found["opsplitd"], "build")["target"].as<std::string>(), "opsplitd-cuda");
  EXPECT_EQ(member(found["anchor"], "image").as<std::string>(), "opsplit/opsplitd");
  EXPECT_TRUE(found["conv"]["<<"]["<<"].is(found["softmax"]["<<"]))
      << "hardened and joined as they are";
  for (const char* more : {"privileged", "devices", "cap_add", "deploy", "user"})
    for (const char* service : {"conv", "opsplitd"})
      EXPECT_FALSE(member(found[service], more)) << service << " " << more;
  for (const char* service : {"conv", "opsplitd"})
    EXPECT_EQ(member(found[service], "network_mode").as<std::string>(), "none");
}

TEST_F(ComposeFileTest, OnAGpuThereIsRoomForWhatCudaTakes) {
  const std::string file = "model: " + model + "\nname: a\noperators:\n";
  const auto megabytes = [](const YAML::Node& service) {
    return std::stoul(member(service, "mem_limit").as<std::string>());
  };
  const auto one = services(deployment(file + "  conv: {gpu: 0}\n"));
  const auto two =
      services(deployment(file + "  conv: {gpu: 0}\n  relu: {gpu: 1}\n  gemm: {gpu: 1}\n"));
  EXPECT_EQ(megabytes(one["conv"]), megabytes(one["relu"]) + 1792);
  const std::size_t without =
      megabytes(services(deployment(file + "  conv: {instances: 1}\n"))["opsplitd"]);
  EXPECT_EQ(megabytes(one["opsplitd"]), without + 768);
  EXPECT_EQ(megabytes(two["opsplitd"]), without + 2 * 768) << "a device broker for each GPU";
}

TEST_F(ComposeFileTest, OpsplitdFindsTheGpusThatTheFileNamesByNumberAndByUuid) {
  const auto seen = [this](const std::string& conv, const std::string& gemm) {
    const auto found = services(deployment(fmt::format(
        "model: {}\noperators:\n  conv: {{gpu: {}}}\n  gemm: {{gpu: {}}}\n", model, conv, gemm)));
    EXPECT_EQ(seen_gpus(found["conv"]), conv) << "whatever its number is in there";
    return seen_gpus(found["opsplitd"]);
  };
  EXPECT_EQ(seen("2", "2"), "0,1,2") << "the one of number 2 is still that of number 2";
  EXPECT_EQ(seen(uuid, uuid), uuid);
  EXPECT_EQ(seen(uuid, other_uuid), fmt::format("{},{}", uuid, other_uuid));
  EXPECT_EQ(seen(uuid, "0"), "all") << "that UUID may be of any number";
}

TEST_F(ComposeFileTest, WhoeverAttachesOnAGpuNeedsTheOwnerOfItsMemoryAllTheSame) {
  const Target target =
      deployment("model: " + model + "\noperators:\n  relu: {backend: attach, gpu: 0}\n");
  const auto found = services(target);
  EXPECT_FALSE(found["relu"]);
  EXPECT_EQ(seen_gpus(found["opsplitd"]), "0");
  EXPECT_THAT(compose_images(Deployment::open(target).value()),
              ElementsAre("opsplit/operator", "opsplit/opsplitd", "opsplit/opsplitd-cuda"));
  EXPECT_THAT(compose_images(Deployment::open("examples/digits/digits-cuda.yaml").value()),
              ElementsAre("opsplit/operator", "opsplit/operator-cuda", "opsplit/opsplitd",
                          "opsplit/opsplitd-cuda"));
}

TEST_F(ComposeFileTest, AFrameworkOnAGpuHasNoImage) {
  const auto refused = text(
      deployment("model: " + model + "\noperators:\n  relu: {backend: pytorch, gpu: 0}\n"), {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              HasSubstr("operator 'relu': there is no image of backend pytorch for GPUs"));
}

TEST_F(ComposeFileTest, ASwapOfAnOperatorOnAGpuLeavesItThere) {
  const auto written = text({.path = "examples/digits/digits-cuda.yaml"}, {.folder = source});
  ASSERT_TRUE(written);
  const auto swapped = changed_compose_file(*written, "conv", {"my/conv", 0});
  ASSERT_TRUE(swapped) << swapped.error().message;
  const YAML::Node conv = YAML::Load(*swapped)["services"]["conv"];
  EXPECT_EQ(member(conv, "image").as<std::string>(), "my/conv");
  EXPECT_EQ(seen_gpus(conv), "0");
}

TEST_F(ComposeFileTest, ASwapChangesOneServiceAndOneAfterItChangesItAgain) {
  const auto written = text(digits, {.folder = source});
  ASSERT_TRUE(written);
  const auto swapped = changed_compose_file(*written, "relu", {"my/relu: \"1\"", 320 << 20});
  ASSERT_TRUE(swapped) << swapped.error().message;
  const YAML::Node relu = YAML::Load(*swapped)["services"]["relu"];
  EXPECT_EQ(member(relu, "image").as<std::string>(), "my/relu: \"1\"");
  EXPECT_EQ(member(relu, "user").as<std::string>(), "10001:10001");
  EXPECT_EQ(member(relu, "mem_limit").as<std::string>(), "320m");
  EXPECT_THAT(list(relu["command"]), ElementsAre("--deployment", "digits", "--operator", "relu"));
  EXPECT_EQ(member(relu, "restart").as<std::string>(), "always");

  const auto again = changed_compose_file(*swapped, "relu", {"opsplit/operator", 0});
  ASSERT_TRUE(again);
  const YAML::Node now = YAML::Load(*again)["services"]["relu"];
  EXPECT_EQ(member(now, "image").as<std::string>(), "opsplit/operator");
  EXPECT_FALSE(now["mem_limit"]) << "the one of all operators";
  EXPECT_EQ(again->find("my/relu"), std::string::npos);
  const auto without = [](std::string file) {
    const auto line = file.find("\n  relu: ");
    return file.erase(line, file.find('\n', line + 1) - line);
  };
  EXPECT_EQ(without(*again), without(*written));
  EXPECT_EQ(changed_compose_file(*written, "nobody", {"x", 0}).error().code, ErrorCode::not_found);
}

TEST_F(ComposeFileTest, ASwapInAProjectOfTheUsersIsAFileOfTheSameMembers) {
  const YAML::Node file = YAML::Load(compose_override("client", {"opsplit/operator", 64 << 20}));
  EXPECT_EQ(file["version"].as<std::string>(), "2.4") << "compose wants the same in all files";
  EXPECT_EQ(file["services"].size(), 1u);
  const YAML::Node service = file["services"]["operator-client"];
  EXPECT_EQ(service["image"].as<std::string>(), "opsplit/operator");
  EXPECT_EQ(service["mem_limit"].as<std::string>(), "64m");
}

TEST_F(ComposeFileTest, AMemoryLimitGrowsWithTheFrameworkAndNeverShrinks) {
  const std::uint64_t limit = 256 << 20;
  const std::string native = compose_image(Backend::native, false);
  const std::string pytorch = compose_image(Backend::pytorch, false);
  const std::string cuda = compose_image(Backend::native, true);
  const auto larger = compose_memory(limit, native, pytorch);
  EXPECT_GT(larger, limit);
  EXPECT_EQ(compose_memory(larger, pytorch + ":latest", native), larger);
  EXPECT_EQ(compose_memory(limit, native, native), limit);
  EXPECT_EQ(compose_memory(limit, native, "who/knows"),
            compose_memory(limit, native, compose_image(Backend::tensorflow, false)));
  EXPECT_EQ(compose_memory(larger, cuda + ":latest", "who/knows"), larger);
  EXPECT_EQ(compose_memory(larger, "who/knows", pytorch), larger);
  EXPECT_EQ(compose_memory(0, native, pytorch), 0u) << "no limit";
}

}  // namespace
}  // namespace opsplit::daemon
