// docs/deployment.schema.json, docs/deployment.md and the parser must say the same.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "daemon/deployment.hpp"

namespace opsplit::daemon {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

std::string text_of(const std::string& path) {
  std::ifstream file(OPSPLIT_SOURCE_DIR "/" + path);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const json& schema() {
  static const json parsed = json::parse(text_of("docs/deployment.schema.json"));
  return parsed;
}

std::vector<std::string> keys_of(const json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

bool parses(const std::string& line) {
  return Deployment::parse((line.starts_with("model:") ? "" : "model: a.onnx\n") + line, "a.yaml")
      .has_value();
}

const json& operator_properties() { return schema()["$defs"]["operator"]["properties"]; }

TEST(DeploymentSchemaTest, KeysAreTheParsers) {
  EXPECT_THAT(keys_of(schema()["properties"]), UnorderedElementsAreArray(deployment_keys()));
  EXPECT_THAT(keys_of(operator_properties()), UnorderedElementsAreArray(operator_keys()));
  EXPECT_EQ(schema()["additionalProperties"], false);
  EXPECT_EQ(schema()["$defs"]["operator"]["additionalProperties"], false);
}

TEST(DeploymentSchemaTest, RequiredKeysAreTheParsers) {
  EXPECT_EQ(schema()["required"], json::array({"model"}));
  EXPECT_FALSE(Deployment::parse("name: a", "a.yaml"));
  EXPECT_TRUE(parses("model: a.onnx"));
}

TEST(DeploymentSchemaTest, EnumsAreTheParsers) {
  const json splits = schema()["properties"]["split"]["anyOf"][0]["enum"];
  for (const json& split : splits) EXPECT_TRUE(parses("split: " + split.get<std::string>()));
  EXPECT_EQ(splits.size(), 3u);
  for (const json& objective : schema()["properties"]["objective"]["enum"])
    EXPECT_TRUE(objective_from_string(objective.get<std::string>())) << objective;
  EXPECT_EQ(schema()["properties"]["objective"]["enum"].size(), 2u);
  const json backends = operator_properties()["backend"]["enum"];
  for (const json& backend : backends)
    EXPECT_TRUE(parses("operators: {a: {backend: " + backend.get<std::string>() + "}}")) << backend;
  EXPECT_EQ(backends.size(), 5u);
  const json on_gpu = schema()["$defs"]["operator"]["then"]["properties"]["backend"]["enum"];
  for (const json& backend : backends)
    EXPECT_EQ(parses("operators: {a: {gpu: 0, backend: " + backend.get<std::string>() + "}}"),
              std::ranges::find(on_gpu, backend) != on_gpu.end())
        << backend;
  const json priorities = operator_properties()["stream"]["properties"]["priority"]["enum"];
  for (const json& priority : priorities)
    EXPECT_TRUE(
        parses("operators: {a: {gpu: 0, stream: {priority: " + priority.get<std::string>() + "}}}"))
        << priority;
  EXPECT_EQ(priorities.size(), 3u);
}

TEST(DeploymentSchemaTest, RangesAreTheParsers) {
  const auto expect_range = [](const json& rule, const std::string& before,
                               const std::string& after) {
    const std::int64_t min = rule["minimum"];
    const std::int64_t max = rule["maximum"];
    EXPECT_TRUE(parses(fmt::format("{}{}{}", before, min, after))) << before << min;
    EXPECT_TRUE(parses(fmt::format("{}{}{}", before, max, after))) << before << max;
    EXPECT_FALSE(parses(fmt::format("{}{}{}", before, min - 1, after))) << before << min;
    EXPECT_FALSE(parses(fmt::format("{}{}{}", before, max + 1, after))) << before << max;
  };
  const json& top = schema()["properties"];
  expect_range(top["depth"], "depth: ", "");
  expect_range(top["slots_per_client"], "depth: 64\nslots_per_client: ", "");
  expect_range(top["shapes"]["additionalProperties"]["items"], "shapes: {x: [", "]}");
  expect_range(operator_properties()["cores"]["anyOf"][0], "operators: {a: {cores: ", "}}");
  expect_range(operator_properties()["instances"], "operators: {a: {instances: ", "}}");
  expect_range(operator_properties()["standby"], "operators: {a: {standby: ", "}}");
  expect_range(operator_properties()["hung_after"], "operators: {a: {hung_after: ", "}}");
  expect_range(operator_properties()["gpu"]["anyOf"][0], "operators: {a: {gpu: ", "}}");
  EXPECT_EQ(top["depth"]["maximum"], Deployment::max_depth);
  EXPECT_EQ(operator_properties()["instances"]["maximum"], Deployment::max_instances);
}

TEST(DeploymentSchemaTest, DefaultsAreTheParsers) {
  const Deployment deployment = Deployment::for_model("a.onnx");
  EXPECT_EQ(schema()["properties"]["depth"]["default"], deployment.depth);
  EXPECT_EQ(schema()["properties"]["objective"]["default"], to_string(deployment.objective));
  EXPECT_EQ(operator_properties()["instances"]["default"], OperatorSettings{}.instances);
}

TEST(DeploymentSchemaTest, EveryRuleIsDescribedAndEveryKeyIsInTheReference) {
  const std::string reference = text_of("docs/deployment.md");
  const auto check = [&](const json& properties) {
    for (const auto& [key, rule] : properties.items()) {
      EXPECT_TRUE(rule.contains("description")) << key;
      EXPECT_THAT(reference, HasSubstr("| `" + key + "` |"));
    }
  };
  check(schema()["properties"]);
  check(operator_properties());
}

// Every YAML block of the reference page is a whole file and parses.
TEST(DeploymentSchemaTest, ExamplesOfTheReferenceParse) {
  const std::string reference = text_of("docs/deployment.md");
  constexpr std::string_view fence = "```yaml\n";
  int examples = 0;
  for (std::size_t at = reference.find(fence); at != std::string::npos;
       at = reference.find(fence, at)) {
    at += fence.size();
    const std::size_t end = reference.find("```", at);
    ASSERT_NE(end, std::string::npos);
    const auto deployment = Deployment::parse(reference.substr(at, end - at), "a.yaml");
    EXPECT_TRUE(deployment) << deployment.error().message;
    at = end + 3;
    ++examples;
  }
  EXPECT_GE(examples, 3);
}

}  // namespace
}  // namespace opsplit::daemon
