#include "daemon/deployment.hpp"

#include <gmock/gmock.h>

#include <fstream>
#include <random>

#include "tests/daemon/fuzz.hpp"
#include "tests/daemon/temporary_folder.hpp"

namespace opsplit::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Result<Deployment> parse(std::string_view text) {
  return Deployment::parse(text, "/models/digits.yaml");
}

std::string problem(std::string_view text) {
  const auto deployment = parse(text);
  return deployment ? "none" : deployment.error().message;
}

constexpr auto complete = R"(
name: my-digits
model: sub/digits.onnx
split: stages:4
shapes: {image: [1, 1, 8, 8], mask: []}
depth: 16
slots_per_client: 4
objective: throughput
operators:
  stage-0: {cores: "0-1", instances: 2}
  stage-1: {cores: 3}
  stage-2:
    cores: 0,2-3
  stage-3:
)";

constexpr auto by_hand = R"(
model: digits.onnx
operators:
  features: {nodes: [conv1..pool2, "12"], cores: 1}
  head: {ops: [Gemm], nodes: [softmax]}
)";

TEST(DeploymentTest, ReadsEverySetting) {
  const auto deployment = parse(complete);
  ASSERT_TRUE(deployment) << deployment.error().message;
  EXPECT_EQ(deployment->name, "my-digits");
  EXPECT_EQ(deployment->model, "/models/sub/digits.onnx");
  EXPECT_EQ(graph::to_string(deployment->split), "stages:4");
  EXPECT_EQ(deployment->shapes.at("image"), (Shape{1, 1, 8, 8}));
  EXPECT_EQ(deployment->shapes.at("mask"), Shape{});
  EXPECT_EQ(deployment->depth, 16);
  EXPECT_EQ(deployment->slots_per_client, 4);
  EXPECT_EQ(deployment->objective, Objective::throughput);
  ASSERT_EQ(deployment->operators.size(), 4u);
  EXPECT_EQ(deployment->operators.at("stage-0").cores, CoreRequest(CpuSet{0, 1}));
  EXPECT_EQ(deployment->operators.at("stage-0").instances, 2);
  EXPECT_EQ(deployment->operators.at("stage-0").line, 10);
  EXPECT_EQ(deployment->operators.at("stage-1").cores, CoreRequest(3));
  EXPECT_EQ(deployment->operators.at("stage-2").cores, CoreRequest(CpuSet{0, 2, 3}));
  EXPECT_EQ(deployment->operators.at("stage-3").cores, std::nullopt);
}

TEST(DeploymentTest, DefaultsNeedOnlyAModel) {
  const auto deployment = parse("model: /abs/LeNet-5 (v2).onnx");
  ASSERT_TRUE(deployment) << deployment.error().message;
  EXPECT_EQ(deployment->name, "lenet-5--v2-");
  EXPECT_EQ(deployment->model, "/abs/LeNet-5 (v2).onnx");
  EXPECT_EQ(graph::to_string(deployment->split), "by-type");
  EXPECT_EQ(deployment->depth, 8);
  EXPECT_EQ(deployment->slots_per_client, 8);
  EXPECT_EQ(deployment->objective, Objective::latency);
  EXPECT_EQ(parse("model: a.onnx\ndepth: 3")->slots_per_client, 3);
  EXPECT_EQ(parse("model: .onnx")->name, "-onnx");
  EXPECT_TRUE(is_deployment_name(parse("model: " + std::string(200, 'A') + ".onnx")->name));
}

TEST(DeploymentTest, QuotesTellACpuFromANumberOfCores) {
  const auto cores = [](const char* text) {
    return parse(fmt::format("model: a.onnx\noperators: {{conv: {{cores: {}}}}}", text))
        ->operators.at("conv")
        .cores;
  };
  EXPECT_EQ(cores("2"), CoreRequest(2));
  EXPECT_EQ(cores("\"2\""), CoreRequest(CpuSet{2}));
  EXPECT_EQ(cores("2-2"), CoreRequest(CpuSet{2}));
}

TEST(DeploymentTest, SplitByHand) {
  const auto deployment = parse(by_hand);
  ASSERT_TRUE(deployment) << deployment.error().message;
  const auto* split = std::get_if<graph::ByHand>(&deployment->split);
  ASSERT_NE(split, nullptr);
  ASSERT_EQ(split->groups.size(), 2u);
  EXPECT_EQ(split->groups[0].op, "features");
  EXPECT_THAT(split->groups[0].nodes, ElementsAre("conv1..pool2", "12"));
  EXPECT_EQ(split->groups[1].op, "head");
  EXPECT_THAT(split->groups[1].nodes, ElementsAre("softmax"));
  EXPECT_THAT(split->groups[1].op_types, ElementsAre("Gemm"));
  EXPECT_EQ(deployment->operators.at("features").cores, CoreRequest(1));
}

constexpr auto on_gpus = R"(
model: digits.onnx
operators:
  conv: {gpu: 0}
  gemm: {stream: {priority: high}, gpu: gpu_name, backend: attach}
  relu: {cores: 1}
)";
constexpr std::string_view gpu_name = "GPU-01234567-89ab-cdef-0123-456789abcdef";

std::string with_gpu_name(std::string text) {
  return text.replace(text.find("gpu_name"), 8, gpu_name);
}

TEST(DeploymentTest, AGpuIsNamedByNumberOrUuid) {
  const auto deployment = parse(with_gpu_name(on_gpus));
  ASSERT_TRUE(deployment) << deployment.error().message;
  const auto& operators = deployment->operators;
  ASSERT_TRUE(operators.at("conv").gpu && operators.at("gemm").gpu);
  EXPECT_EQ(operators.at("conv").gpu->device, "0");
  EXPECT_EQ(operators.at("conv").gpu->priority, std::nullopt);
  EXPECT_EQ(operators.at("conv").gpu->line, 4);
  EXPECT_EQ(operators.at("gemm").gpu->device, gpu_name);
  EXPECT_EQ(operators.at("gemm").gpu->priority, ipc::StreamPriority::high);
  EXPECT_FALSE(operators.at("relu").gpu);
}

TEST(DeploymentTest, OneUuidIsOneGpuHoweverItIsWritten) {
  const auto deployment =
      parse("model: a.onnx\noperators: {a: {gpu: GPU-01234567-89AB-CDEF-0123-456789ABCDEF}}");
  ASSERT_TRUE(deployment) << deployment.error().message;
  EXPECT_EQ(deployment->operators.at("a").gpu->device, gpu_name);
}

struct BadFile {
  const char* text;
  const char* message;  // with the line
};

TEST(DeploymentTest, ErrorsNameTheLineAndWhatIsAllowed) {
  const BadFile files[] = {
      {"", ":1: the file is empty"},
      {"# nothing\n", ":1: the file is empty"},
      {"just text", ":1: the file must be a mapping"},
      {"- a\n- b", ":1: the file must be a mapping"},
      {"name: x", ":1: 'model' is missing"},
      {"model: a.onnx\n---\nmodel: b.onnx", ":2: the file goes on behind its first document"},
      {"model: a.onnx\nsplit: [", ":2: is not YAML"},
      {"model: a.onnx\n\tdepth: 8", ":2: is not YAML"},
      {"model: a.onnx\nmodel: b.onnx", ":2: model is there twice"},
      {"model: a.onnx\ndept: 8",
       ":2: unknown key 'dept'; did you mean 'depth'?; allowed: name, "
       "model, split"},
      {"model: a.onnx\n[a]: 8", ":2: unknown key a list"},
      {"model: a.onnx\n<<: {depth: 8}", ":2: unknown key '<<'"},
      {"model:", ":1: model: must be the path of an .onnx file, not nothing"},
      {"model: [a.onnx]", ":1: model: must be the path of an .onnx file, not a list"},
      {"model: \"a\\0b\"", ":1: model: must be the path"},
      {"model: a.onnx\nname: My Net", ":2: name: must be 1 to 32 of a-z"},
      {"model: a.onnx\nname: 12", ":2: name: must be a name; '12' is no text, write it in quotes"},
      {"model: a.onnx\nname: yes-this-name-is-longer-than-32-characters", ":2: name: must be"},
      {"model: a.onnx\nsplit: by-typo", ":2: split: "},
      {"model: a.onnx\nsplit: stages:0", ":2: split: "},
      {"model: a.onnx\nsplit: {stages: 4}", ":2: split: must be fused, by-type, per-node"},
      {"model: a.onnx\nshapes: [1]", ":2: shapes: must be an input or output and its sizes"},
      {"model: a.onnx\nshapes:\n  x: 5", ":3: shapes: must be an input or output and its sizes"},
      {"model: a.onnx\nshapes:\n  x: [1, 0]", ":3: shapes.x: must be a number from 1"},
      {"model: a.onnx\nshapes:\n  x: [1, N]", ":3: shapes.x: must be a number from 1"},
      {"model: a.onnx\nshapes:\n  x: [1]\n  x: [2]", ":4: shapes.x is there twice"},
      {"model: a.onnx\nshapes: {x: [1,1,1,1,1,1,1,1,1]}", ":2: shapes.x: a tensor of rank 9"},
      {"model: a.onnx\nshapes: {x: [2147483647,2147483647,2147483647]}", ":2: shapes.x: shape"},
      {"model: a.onnx\nshapes: {x: [2147483648]}", ":2: shapes.x: must be a number"},
      {"model: a.onnx\ndepth: 0", ":2: depth: must be a number from 1 to 64, not '0'"},
      {"model: a.onnx\ndepth: 65", ":2: depth: must be a number from 1 to 64, not '65'"},
      {"model: a.onnx\ndepth: many", ":2: depth: must be a number from 1 to 64, not 'many'"},
      {"model: a.onnx\ndepth: 1.5", ":2: depth: must be a number"},
      {"model: a.onnx\ndepth: -1", ":2: depth: must be a number"},
      {"model: a.onnx\ndepth: 010", ":2: depth: must be a number"},
      {"model: a.onnx\ndepth: \"8\"", ":2: depth: must be a number"},
      {"model: a.onnx\ndepth: 99999999999999999999", ":2: depth: must be a number"},
      {"model: a.onnx\ndepth:", ":2: depth: must be a number from 1 to 64, not nothing"},
      {"model: a.onnx\nslots_per_client: 9", ":2: slots_per_client: 9 is more than depth, 8"},
      {"slots_per_client: 4\nmodel: a.onnx\ndepth: 2", ":1: slots_per_client: 4 is more than"},
      {"model: a.onnx\nobjective: speed", ":2: objective: must be latency or throughput"},
      {"model: a.onnx\noperators: [conv]", ":2: operators: must be names and settings"},
      {"model: a.onnx\noperators: {Conv: {}}", ":2: operators: an operator's name must be"},
      {"model: a.onnx\noperators: {conv: 2}", ":2: operators.conv: must be settings"},
      {"model: a.onnx\noperators:\n  conv: {}\n  conv: {}", ":4: operators.conv is there twice"},
      {"model: a.onnx\noperators:\n  conv: {core: 2}",
       ":3: operators.conv: unknown key 'core'; did you mean 'cores'?; allowed: cores, instances"},
      {"model: a.onnx\noperators:\n  conv: {cores: 0}", ":3: operators.conv.cores: must be"},
      {"model: a.onnx\noperators:\n  conv: {cores: 3-1}", ":3: operators.conv.cores: must be"},
      {"model: a.onnx\noperators:\n  conv: {cores: [0, 1]}", "not a list"},
      {"model: a.onnx\noperators:\n  conv: {instances: 33}", "from 1 to 32, not '33'"},
      {"model: a.onnx\noperators:\n  conv: {nodes: []}", ":3: operators.conv.nodes: must be"},
      {"model: a.onnx\noperators:\n  conv: {nodes: conv1}", "not 'conv1'"},
      {"model: a.onnx\noperators:\n  conv: {nodes: [12]}", "'12' is no text, write it in quotes"},
      {"model: a.onnx\noperators:\n  conv: {ops: [{}]}", ":3: operators.conv.ops: must be"},
      {"model: a.onnx\nsplit: fused\noperators:\n  conv: {ops: [Conv]}",
       ":4: operators.conv: lists its nodes, that is a split by hand: leave out 'split' (line 2)"},
      {"model: a.onnx\noperators:\n  conv: {gpu: 64}",
       ":3: operators.conv.gpu: must be a GPU as `opsplit doctor` lists them, by its number (0 to "
       "63)"},
      {"model: a.onnx\noperators:\n  conv: {gpu: -1}", ":3: operators.conv.gpu: must be a GPU"},
      {"model: a.onnx\noperators:\n  conv: {gpu: \"0\"}", ":3: operators.conv.gpu: must be a GPU"},
      {"model: a.onnx\noperators:\n  conv: {gpu: GPU-1}", ":3: operators.conv.gpu: must be a GPU"},
      {"model: a.onnx\noperators:\n  conv: {gpu: [0]}", ":3: operators.conv.gpu: must be a GPU"},
      {"model: a.onnx\noperators:\n  conv:\n    stream: {priority: low}",
       ":4: operators.conv.stream: only with 'gpu'"},
      {"model: a.onnx\noperators:\n  conv:\n    gpu: 0\n    stream: high",
       ":5: operators.conv.stream: must be settings, such as {priority: high}"},
      {"model: a.onnx\noperators:\n  conv:\n    gpu: 0\n    stream: {priority: urgent}",
       ":5: operators.conv.stream.priority: must be low, normal or high, not 'urgent'"},
      {"model: a.onnx\noperators:\n  conv:\n    gpu: 0\n    stream: {weight: 1}",
       ":5: operators.conv.stream: unknown key 'weight'; allowed: priority"},
      {"model: a.onnx\noperators:\n  conv:\n    backend: tensorflow\n    gpu: 0",
       ":5: operators.conv.gpu: backend tensorflow runs on CPUs only so far"},
      {"model: a.onnx\noperators:\n  conv: {ops: [Conv]}\n  head: {cores: 1}",
       ":4: operators.head: must list its nodes or ops, as operators.conv does"},
  };
  for (const BadFile& file : files) {
    EXPECT_THAT(problem(file.text),
                AllOf(StartsWith("/models/digits.yaml:"), HasSubstr(file.message)))
        << file.text;
    EXPECT_EQ(problem(file.text).find('\n'), std::string::npos) << file.text;
  }
}

TEST(DeploymentTest, ErrorsStayOnOneLineWhateverTheFileHolds) {
  for (const char* text : {"model: a.onnx\n\"a\\nb\\e[2J\": 1", "model: a\nname: \"a\\nb\"",
                           "model: a\nshapes: {\"x\\ny\": [0]}"}) {
    EXPECT_NE(problem(text), "none");
    for (const char c : problem(text)) EXPECT_GE(c, ' ') << text;
  }
  EXPECT_LT(problem("model: a\nname: \"" + std::string(100'000, 'x') + "\"").size(), 300u);
}

TEST(DeploymentTest, NestingAndAliasesDoNoHarm) {
  EXPECT_NE(problem("model: " + std::string(100'000, '[')), "none");
  EXPECT_NE(problem("model: &a [*a]"), "none");
  EXPECT_NE(problem("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nmodel: *c"), "none");
  EXPECT_EQ(parse("model: &m a.onnx\nname: b")->model, "/models/a.onnx");
}

TEST(DeploymentTest, RandomDamageIsAnErrorOrADeployment) {
  std::mt19937 random(11);
  for (const std::string& valid :
       {std::string(complete), std::string(by_hand), with_gpu_name(on_gpus)})
    for (int round = 0; round < 10'000; ++round) {
      const std::string bad = damaged(valid, random);
      const auto deployment = parse(bad);
      if (!deployment) {
        EXPECT_THAT(deployment.error().message, StartsWith("/models/digits.yaml:"));
        continue;
      }
      EXPECT_TRUE(is_deployment_name(deployment->name)) << bad;
      EXPECT_GE(deployment->depth, deployment->slots_per_client) << bad;
      EXPECT_GE(deployment->slots_per_client, 1) << bad;
      EXPECT_LE(deployment->depth, Deployment::max_depth) << bad;
    }
}

TEST(DeploymentTest, ExampleParsesAndSaysWhatIsDefault) {
  const auto deployment = parse(commented_example());
  ASSERT_TRUE(deployment) << deployment.error().message;
  const auto defaults = Deployment::for_model("/models/digits.onnx");
  EXPECT_EQ(deployment->name, defaults.name);
  EXPECT_EQ(deployment->model, defaults.model);
  EXPECT_EQ(graph::to_string(deployment->split), graph::to_string(defaults.split));
  EXPECT_EQ(deployment->depth, defaults.depth);
  EXPECT_EQ(deployment->slots_per_client, defaults.slots_per_client);
  EXPECT_EQ(deployment->objective, defaults.objective);
  for (const std::string& key : deployment_keys())
    EXPECT_THAT(commented_example(),
                HasSubstr("\n" +
                          std::string(key == "shapes" || key == "operators" || key == "client" ||
                                              key == "slots_per_client"
                                          ? "# "
                                          : "") +
                          key + ":"));
  for (const std::string& key : operator_keys())
    EXPECT_THAT(commented_example(), HasSubstr(key + ": "));
}

TEST(DeploymentTest, ExampleParsesWithItsCommentsRemoved) {
  std::string text = commented_example();
  for (const std::string setting : {"# shapes:\n#   image", "# slots_per_client"}) {
    const std::size_t at = text.find(setting);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, 2, "");
    if (const std::size_t next = text.find("\n#   image", at); next != std::string::npos)
      text.replace(next + 1, 2, "");
  }
  const auto deployment = parse(text);
  ASSERT_TRUE(deployment) << deployment.error().message;
  EXPECT_EQ(deployment->shapes.at("image"), (Shape{1, 1, 8, 8}));
  EXPECT_EQ(deployment->slots_per_client, 4);
}

TEST(DeploymentOverrideTest, SplitOfAnotherKindDropsOperatorSettings) {
  Deployment deployment = *parse(complete);
  ASSERT_TRUE(deployment.set_split("stages:4"));
  EXPECT_EQ(deployment.operators.size(), 4u);
  ASSERT_TRUE(deployment.set_split("fused"));
  EXPECT_TRUE(deployment.operators.empty());
  EXPECT_EQ(graph::to_string(deployment.split), "fused");
  EXPECT_FALSE(deployment.set_split("by hand"));
  EXPECT_FALSE(deployment.set_split(""));
}

TEST(DeploymentOverrideTest, Name) {
  Deployment deployment = Deployment::for_model("a.onnx");
  ASSERT_TRUE(deployment.set_name("b_2"));
  EXPECT_EQ(deployment.name, "b_2");
  for (const char* name : {"", "B", "a b", "a/b", "..", "\xc3\xa4"})
    EXPECT_THAT(deployment.set_name(name).error().message, HasSubstr("must be 1 to 32")) << name;
}

TEST(DeploymentOverrideTest, Shapes) {
  Deployment deployment = *parse(complete);
  ASSERT_TRUE(deployment.set_shape("x=1,3,736,736"));
  EXPECT_EQ(deployment.shapes.at("x"), (Shape{1, 3, 736, 736}));
  ASSERT_TRUE(deployment.set_shape("image=2"));
  EXPECT_EQ(deployment.shapes.at("image"), Shape{2});
  ASSERT_TRUE(deployment.set_shape("a=b=2,2"));
  EXPECT_EQ(deployment.shapes.at("a=b"), (Shape{2, 2}));
  ASSERT_TRUE(deployment.set_shape("scalar="));
  EXPECT_EQ(deployment.shapes.at("scalar"), Shape{});
  for (const char* text :
       {"", "x", "=1", "x=0", "x=-1", "x=1,", "x=,1", "x=1x3", "x=1, 3", "x=99999999999999999999",
        "x=1,1,1,1,1,1,1,1,1", "x=4294967296,4294967296"})
    EXPECT_FALSE(deployment.set_shape(text)) << text;
}

TEST(DeploymentOverrideTest, OperatorsThatThePlanDoesNotHave) {
  const Deployment deployment = *parse("model: a.onnx\noperators:\n  cnov: {cores: 1}");
  const std::vector<std::string> planned{"conv", "relu"};
  EXPECT_THAT(deployment.check_operators(planned).error().message,
              AllOf(StartsWith("/models/digits.yaml:3: "), HasSubstr("'cnov'"),
                    HasSubstr("did you mean 'conv'?")));
  EXPECT_TRUE(parse("model: a.onnx\noperators: {conv: }")->check_operators(planned));
}

TEST(DeploymentOpenTest, ByEnding) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, const char* content) {
    std::ofstream(folder.path() / name) << content;
    return folder.path() / name;
  };
  const auto model = write("Net.onnx", "");
  EXPECT_EQ(Deployment::open(model)->name, "net");
  EXPECT_EQ(Deployment::open(write("a.yaml", "model: Net.onnx"))->model, model);
  EXPECT_EQ(Deployment::open(write("a.yml", "model: Net.onnx"))->model, model);
  EXPECT_THAT(Deployment::open(write("b.yaml", "model: Nat.onnx")).error().message,
              AllOf(HasSubstr("b.yaml: model: there is no file"), HasSubstr("Nat.onnx")));
  EXPECT_THAT(Deployment::open(write("a.txt", "")).error().message, HasSubstr("neither"));
  EXPECT_EQ(Deployment::open(folder.path() / "none.yaml").error().code, ErrorCode::not_found);
  EXPECT_THAT(Deployment::open(folder.path()).error().message, HasSubstr("not a plain file"));
  const auto huge = write("huge.yaml", "model: a");
  std::filesystem::resize_file(huge, 2u << 20);
  EXPECT_FALSE(Deployment::open(huge));
}

}  // namespace
}  // namespace opsplit::daemon
