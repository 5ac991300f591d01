#include "base/plan.hpp"

#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace opsplit {
namespace {

using nlohmann::json;
using testing::HasSubstr;

PlannedTensor tensor(std::string name, Shape shape, std::uint64_t offset, std::int32_t producer,
                     std::vector<std::int32_t> readers) {
  PlannedTensor made;
  made.name = std::move(name);
  made.type = {float32, shape};
  made.offset = offset;
  made.bytes = *byte_size(made.type, Layout::nChw8c) + 1;  // a place may be larger than it must be
  made.producer = producer;
  made.readers = std::move(readers);
  return made;
}

// x -> conv1 -> a -> relu -> b -> conv2 -> c, seen as c_flat -> head -> y
// b_flat, a view of b, is an output as well. c lies where a lay.
Plan small_plan() {
  constexpr std::int32_t none = PlannedTensor::none;
  Plan plan;
  plan.model = "small.onnx";
  plan.split = "by-type";
  plan.slot_bytes = 4096;
  plan.workspace_bytes = 192;
  plan.inputs = {0};
  plan.outputs = {6, 5};
  plan.tensors = {
      tensor("x", {1, 1, 4, 4}, 0, none, {0}),       tensor("a", {1, 3, 4, 4}, 1024, 0, {1}),
      tensor("b", {1, 3, 4, 4}, 2048, 1, {2}),       tensor("c", {1, 3, 4, 4}, 1024, 2, {}),
      tensor("c_flat", {1, 48, 1, 1}, 1024, 2, {3}), tensor("b_flat", {1, 48, 1, 1}, 2048, 1, {}),
      tensor("y", {1, 10, 1, 1}, 3072, 3, {})};
  plan.tensors[1].layout = Layout::nChw8c;
  plan.tensors[4].view_of = 3;
  plan.tensors[4].bytes = plan.tensors[3].bytes;
  plan.tensors[5].view_of = 2;
  plan.tensors[5].bytes = plan.tensors[2].bytes;
  plan.tasks = {{"conv1", 0, {"conv1"}, {0}, {1}, {}, {1}, true, false, 1e6},
                {"relu", 1, {"relu"}, {1}, {2}, {0}, {2}, false, true, 48},
                {"conv2", 0, {"conv2", "bias"}, {2}, {3}, {1}, {3}, false, false, 0.1},
                {"head", 2, {"head"}, {4}, {6}, {2}, {}, false, true, 0}};
  plan.operators = {{"conv", "conv.onnx", {0, 2}, 1000000.1},
                    {"activation", "activation.onnx", {1}, 48},
                    {"dense", "dense.onnx", {3}, 0}};
  return plan;
}

// The same with conv and activation on a GPU: a is handed over there, b there and to the client, c to
// the CPU.
Plan gpu_plan() {
  Plan plan = small_plan();
  plan.workspace_bytes = 0;
  plan.gpu_slot_bytes = {1024};
  plan.operators[0].gpu = plan.operators[1].gpu = 0;
  PlannedTensor& a = plan.tensors[1];
  a.layout = Layout::row_major;
  a.in_arena = false;
  a.offset = a.bytes = 0;
  a.gpu = 0;
  a.gpu_offset = 256;
  for (const std::size_t id : {2, 5}) {
    plan.tensors[id].gpu = 0;
    plan.tensors[id].gpu_offset = 512;
  }
  return plan;
}

std::string problem(const Plan& plan) {
  const auto valid = validate(plan);
  return valid ? "valid" : valid.error().message;
}

std::string problem_after(const std::function<void(Plan&)>& change) {
  Plan plan = small_plan();
  change(plan);
  return problem(plan);
}

TEST(PlanTest, SmallPlanIsValid) {
  EXPECT_EQ(problem(small_plan()), "valid");
  EXPECT_EQ(problem(gpu_plan()), "valid");
}

TEST(PlanTest, JsonGoesThereAndBack) {
  const Plan plan = gpu_plan();
  EXPECT_EQ(plan_from_json(to_json(plan)), plan);
  const auto again = plan_from_json(json::parse(to_json(plan).dump(2)));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, plan);
  EXPECT_EQ(digest(*again), digest(plan));
}

TEST(PlanTest, DigestSeesEveryChangeAndIsTheSameEverywhere) {
  const std::uint64_t before = digest(small_plan());
  Plan plan = small_plan();
  plan.tasks[2].cost = std::nextafter(plan.tasks[2].cost, 1);
  EXPECT_NE(digest(plan), before);
  plan = small_plan();
  plan.tensors[6].offset += 64;
  EXPECT_NE(digest(plan), before);
  EXPECT_EQ(digest(Plan{}), 0x612f86c128212cb7u);  // changes with the format only
}

TEST(PlanTest, EmptyPlanIsRefused) {
  EXPECT_THAT(problem(Plan{}), HasSubstr("nothing to run"));
  Plan many = small_plan();
  many.tensors.resize(1 << 20);
  EXPECT_THAT(problem(many), HasSubstr("at most"));
}

TEST(PlanTest, NamesAreChecked) {
  for (const char* name : {"", "Conv", "conv 1", "../conv", "conv.onnx", "c\xc3\xb6nv"})
    EXPECT_THAT(problem_after([&](Plan& p) { p.operators[0].name = name; }),
                HasSubstr("operator's name"))
        << name;
  EXPECT_THAT(problem_after([](Plan& p) { p.operators[0].name = std::string(65, 'a'); }),
              HasSubstr("operator's name"));
  EXPECT_THAT(problem_after([](Plan& p) { p.operators[0].name = "dense"; }),
              HasSubstr("two operators 'dense'"));
  for (const char* part : {"", ".", "..", "a/b", "/etc/passwd", "a\nb"})
    EXPECT_THAT(problem_after([&](Plan& p) { p.operators[0].part = part; }),
                HasSubstr("plain file name"))
        << part;
  EXPECT_THAT(problem_after([](Plan& p) { p.operators[0].part = std::string("a\0b", 3); }),
              HasSubstr("plain file name"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[1].name = "x"; }), HasSubstr("two tensors"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[1].name = "\xff\xfe"; }), HasSubstr("UTF-8"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[1].name = "\x1b[2J"; }), HasSubstr("UTF-8"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].name = "head"; }), HasSubstr("two tasks"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].nodes = {"bias"}; }), HasSubstr("run twice"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].nodes.clear(); }), HasSubstr("no nodes"));
}

TEST(PlanTest, TheWorkspaceIsForTasksThatFollowOneAnother) {
  EXPECT_THAT(problem_after([](Plan& p) { p.workspace_bytes = 100; }), HasSubstr("multiple of 64"));
  EXPECT_THAT(problem_after([](Plan& p) { p.workspace_bytes = ~std::uint64_t{63}; }),
              HasSubstr("at most"));
  const auto two_nodes = [](Plan& plan, std::size_t task) {
    plan.tasks[task].nodes.push_back("another of " + std::to_string(task));
  };
  EXPECT_EQ(problem_after([&](Plan& p) {
              for (std::size_t task = 0; task < p.tasks.size(); ++task) two_nodes(p, task);
            }),
            "valid");
  // A task beside conv1 and relu, which reads what the client writes.
  const auto with_another = [&](Plan& plan) {
    plan.tasks.push_back({"beside", 2, {"beside"}, {0}, {7}, {}, {}, true, false, 0});
    plan.tensors.push_back(tensor("z", {1, 1, 1, 1}, 3584, 4, {}));
    plan.tensors[0].readers.push_back(4);
    plan.operators[2].tasks.push_back(4);
  };
  EXPECT_EQ(problem_after(with_another), "valid");
  EXPECT_THAT(problem_after([&](Plan& p) {
                with_another(p);
                two_nodes(p, 4);
              }),
              HasSubstr("tasks 'conv2' and 'beside' share the workspace while both may run"));
  EXPECT_EQ(problem_after([&](Plan& p) {
              with_another(p);
              two_nodes(p, 4);
              p.workspace_bytes = 0;
            }),
            "valid");
}

TEST(PlanTest, PlacesAreChecked) {
  EXPECT_THAT(problem_after([](Plan& p) { p.slot_bytes = 4095; }), HasSubstr("multiple of 64"));
  EXPECT_THAT(problem_after([](Plan& p) { p.slot_bytes = ~std::uint64_t{63}; }),
              HasSubstr("at most"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].offset = 3073; }),
              HasSubstr("not a multiple of 64"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].offset = 4096; }), HasSubstr("outside"));
  // offset + bytes wraps around to something small
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].offset = ~std::uint64_t{63}; }),
              HasSubstr("outside"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].bytes = ~std::uint64_t{0}; }),
              HasSubstr("outside"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].bytes = 39; }), HasSubstr("takes 40"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[1].type.shape[1] = 9; }),
              HasSubstr("takes 1024"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].type.shape[1] = -1; }),
              HasSubstr("negative"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].type.dtype.lanes = 3; }),
              HasSubstr("unknown element type"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].layout = static_cast<Layout>(77); }),
              HasSubstr("unknown layout"));
}

TEST(PlanTest, ViewsAreChecked) {
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[4].view_of = 99; }), HasSubstr("there are 7"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[4].view_of = -2; }), HasSubstr("there are 7"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[4].view_of = 5; }), HasSubstr("itself a view"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[4].view_of = 4; }), HasSubstr("itself a view"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[3].layout = Layout::nhwc; }),
              HasSubstr("row_major"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[4].offset += 64; }),
              HasSubstr("another place"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[4].type.shape[1] = 47; }),
              HasSubstr("cannot be a view"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[3].outputs = {4}; }), HasSubstr("is a view"));
}

TEST(PlanTest, TensorsLieWhereTheTasksRunThatUseThem) {
  const auto after = [](const std::function<void(Plan&)>& change) {
    Plan plan = gpu_plan();
    change(plan);
    return problem(plan);
  };
  const std::vector<std::pair<std::string, std::function<void(Plan&)>>> mistakes = {
      {"'c': does not lie where", [](Plan& p) { p.tensors[3].gpu = p.tensors[4].gpu = 0; }},
      {"'b': does not lie where",
       [](Plan& p) {
         for (const std::size_t id : {2, 5}) {
           p.tensors[id].in_arena = false;
           p.tensors[id].offset = p.tensors[id].bytes = 0;
         }
       }},
      {"'a': does not lie where", [](Plan& p) { p.operators[1].gpu = PlannedTensor::none; }},
      {"'a': does not lie in the arena, but", [](Plan& p) { p.tensors[1].offset = 64; }},
      {"'a': does not lie in the arena, but", [](Plan& p) { p.tensors[1].bytes = 1; }},
      {"'a': what lies on a GPU must be row_major",
       [](Plan& p) { p.tensors[1].layout = Layout::nhwc; }},
      {"'x': what a GPU copies must be row_major",
       [](Plan& p) { p.tensors[0].layout = Layout::nhwc; }},
      {"'a': GPU 1, there are 1", [](Plan& p) { p.tensors[1].gpu = 1; }},
      {"outside the slot's 1024", [](Plan& p) { p.tensors[1].gpu_offset = 1024; }},
      {"not aligned", [](Plan& p) { p.tensors[1].gpu_offset = 64; }},
      {"'b_flat': has another place", [](Plan& p) { p.tensors[5].gpu_offset = 0; }},
      {"'x': has an offset on no GPU", [](Plan& p) { p.tensors[0].gpu_offset = 256; }},
      {"'a' and 'b' share bytes", [](Plan& p) { p.tensors[1].gpu_offset = 512; }},
      {"operator 'dense': GPU 1, there are 1", [](Plan& p) { p.operators[2].gpu = 1; }},
      {"gpu_slot_bytes holds 100", [](Plan& p) { p.gpu_slot_bytes[0] = 100; }}};
  for (const auto& [what, mistake] : mistakes) EXPECT_THAT(after(mistake), HasSubstr(what));
}

TEST(PlanTest, OnlyWhatTheClientAloneReadsMayVary) {
  const auto varying = [](std::size_t id) {
    return problem_after([id](Plan& p) { p.tensors[id].varies = true; });
  };
  const Plan plan = small_plan();
  for (std::size_t id = 0; id < plan.tensors.size(); ++id) {
    const PlannedTensor& tensor = plan.tensors[id];
    const bool is_viewed = std::ranges::any_of(plan.tensors, [&](const PlannedTensor& other) {
      return other.view_of == static_cast<std::int32_t>(id);
    });
    const bool may = tensor.producer != PlannedTensor::none && tensor.readers.empty() &&
                     tensor.view_of == PlannedTensor::none && !is_viewed &&
                     std::ranges::count(plan.outputs, static_cast<std::int32_t>(id)) != 0;
    if (may)
      EXPECT_EQ(varying(id), "valid") << tensor.name;
    else
      EXPECT_THAT(varying(id), HasSubstr("may vary")) << tensor.name;
  }
  EXPECT_EQ(varying(static_cast<std::size_t>(plan.outputs.at(0))), "valid");
}

TEST(PlanTest, WhatATaskOnAGpuReadsOrWritesElsewhereIsCopied) {
  EXPECT_THAT(device_copies(small_plan()), testing::IsEmpty());
  EXPECT_THAT(device_copies(gpu_plan()),
              testing::ElementsAre(DeviceCopy{0, 0, true, 64}, DeviceCopy{1, 2, false, 192},
                                   DeviceCopy{2, 3, false, 192}));
}

TEST(PlanTest, EdgesAreChecked) {
  for (const std::int32_t index : {-1, 7, std::numeric_limits<std::int32_t>::max(),
                                   std::numeric_limits<std::int32_t>::min()}) {
    EXPECT_THAT(problem_after([&](Plan& p) { p.tasks[1].inputs = {index}; }),
                HasSubstr("there are 7"));
    EXPECT_THAT(problem_after([&](Plan& p) { p.tasks[1].outputs = {index}; }),
                HasSubstr("there are 7"));
    EXPECT_THAT(problem_after([&](Plan& p) { p.inputs = {index}; }), HasSubstr("there are 7"));
    EXPECT_THAT(problem_after([&](Plan& p) { p.outputs = {index}; }), HasSubstr("there are 7"));
    EXPECT_THAT(problem_after([&](Plan& p) { p.tasks[1].op = index; }), HasSubstr("there are 3"));
    EXPECT_NE(problem_after([&](Plan& p) { p.operators[1].tasks = {index}; }), "valid");
    EXPECT_NE(problem_after([&](Plan& p) { p.tasks[1].producers = {index}; }), "valid");
    EXPECT_NE(problem_after([&](Plan& p) { p.tasks[1].consumers = {index}; }), "valid");
    EXPECT_NE(problem_after([&](Plan& p) { p.tensors[1].readers = {index}; }), "valid");
    EXPECT_NE(problem_after([&](Plan& p) { p.tensors[1].producer = index; }), "valid");
  }
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].inputs = {1, 1}; }), HasSubstr("twice"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].outputs = {1}; }), HasSubstr("written twice"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[3].outputs.clear(); }),
              HasSubstr("writes nothing"));
  EXPECT_THAT(problem_after([](Plan& p) {
                p.tensors[2].readers = {2, 3};
              }),
              HasSubstr("its readers"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].producers = {}; }),
              HasSubstr("its producers"));
  EXPECT_THAT(problem_after([](Plan& p) {
                p.tasks[1].consumers = {2, 3};
              }),
              HasSubstr("its consumers"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[0].reads_client = false; }),
              HasSubstr("reads_client"));
  EXPECT_THAT(problem_after([](Plan& p) { p.tasks[1].feeds_client = false; }),
              HasSubstr("feeds_client"));
  EXPECT_THAT(problem_after([](Plan& p) { p.inputs = {0, 0}; }), HasSubstr("two inputs"));
  EXPECT_THAT(problem_after([](Plan& p) { p.inputs = {1}; }), HasSubstr("a task writes it"));
  EXPECT_THAT(problem_after([](Plan& p) { p.inputs = {}; }), HasSubstr("there are 0 inputs"));
  EXPECT_THAT(problem_after([](Plan& p) { p.outputs = {6, 6}; }), HasSubstr("two outputs"));
  EXPECT_THAT(problem_after([](Plan& p) { p.operators[0].tasks = {0}; }), HasSubstr("its tasks"));
  EXPECT_THAT(problem_after([](Plan& p) {
                p.operators.push_back({"idle", "idle.onnx", {}, 0});
              }),
              HasSubstr("has no tasks"));
}

TEST(PlanTest, TasksMustBeInTopologicalOrder) {
  EXPECT_THAT(problem_after([](Plan& p) {
                p.tasks[0].inputs = {0, 6};  // conv1 reads what head writes
                p.tensors[6].readers = {0};
              }),
              HasSubstr("before it is written"));
}

TEST(PlanTest, PlacesAreUsedAgainOnlyWhenNobodyNeedsThemAnyMore) {
  // c over its own input b, which is an output of the graph besides
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[3].offset = p.tensors[4].offset = 2048; }),
              HasSubstr("share bytes"));
  // y over c, which the task that writes y reads under the name c_flat
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].offset = 1024; }), HasSubstr("share bytes"));
  // y over the input of the graph, which must stay
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].offset = 0; }), HasSubstr("share bytes"));
  // a partial overlap
  EXPECT_THAT(problem_after([](Plan& p) { p.tensors[6].offset = 1024 + 64; }),
              HasSubstr("share bytes"));
}

// -- Hostile JSON ---------------------------------------------------------------------------------

// What comes out must be an error, or a plan that is valid and says what the JSON says.
void expect_refused_or_faithful(const json& mutated, const std::string& what) {
  const auto plan = plan_from_json(mutated);
  if (!plan) {
    EXPECT_FALSE(plan.error().message.empty()) << what;
    EXPECT_EQ(plan.error().message.find('\n'), std::string::npos) << what;
    return;
  }
  EXPECT_TRUE(validate(*plan)) << what;
  EXPECT_EQ(to_json(*plan), mutated) << what;
}

std::vector<json> hostile_values() {
  return {nullptr,
          true,
          false,
          0,
          1,
          2,
          3,
          7,
          63,
          64,
          1024,
          -1,
          -2,
          0.5,
          -0.5,
          1e308,
          1e19,
          std::numeric_limits<std::int32_t>::max(),
          std::numeric_limits<std::int64_t>::max(),
          std::numeric_limits<std::int64_t>::min(),
          std::numeric_limits<std::uint32_t>::max(),
          std::numeric_limits<std::uint64_t>::max(),
          std::uint64_t{1} << 63,
          1u << 31,
          "",
          "conv",
          "../x",
          "\xff",
          std::string(100'000, 'a'),
          "float64",
          "nhwc",
          json::array(),
          json::array({0}),
          json::array({0, 0}),
          json::array({1, 0}),
          json::array({-1}),
          json::array({json::array()}),
          json::array({nullptr}),
          json::object(),
          json{{"name", "x"}}};
}

// Calls `visit` with a pointer to every value of the document, from the root down.
void for_each_value(const json& document, const json::json_pointer& at,
                    const std::function<void(const json::json_pointer&)>& visit) {
  visit(at);
  const json& value = document.at(at);
  if (value.is_object())
    for (const auto& [key, child] : value.items()) for_each_value(document, at / key, visit);
  if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i) for_each_value(document, at / i, visit);
}

TEST(PlanMutationTest, EveryValueReplaced) {
  const json valid = to_json(gpu_plan());
  for_each_value(valid, json::json_pointer(), [&](const json::json_pointer& at) {
    for (const json& value : hostile_values()) {
      json mutated = valid;
      mutated.at(at) = value;
      expect_refused_or_faithful(mutated, at.to_string());
    }
  });
}

TEST(PlanMutationTest, EveryValueRemovedAddedOrDoubled) {
  const json valid = to_json(gpu_plan());
  for_each_value(valid, json::json_pointer(), [&](const json::json_pointer& at) {
    if (!at.empty() && valid.at(at.parent_pointer()).is_object()) {
      json mutated = valid;
      mutated.at(at.parent_pointer()).erase(at.back());
      EXPECT_FALSE(plan_from_json(mutated)) << "without " << at.to_string();
      mutated = valid;
      mutated.at(at.parent_pointer())["surprise"] = 1;
      EXPECT_FALSE(plan_from_json(mutated)) << "a key more in " << at.to_string();
    }
    if (valid.at(at).is_array() && !valid.at(at).empty()) {
      json mutated = valid;
      mutated.at(at).erase(0);
      expect_refused_or_faithful(mutated, at.to_string());
      mutated = valid;
      mutated.at(at).push_back(valid.at(at).at(0));
      expect_refused_or_faithful(mutated, at.to_string());
      mutated = valid;
      std::reverse(mutated.at(at).begin(), mutated.at(at).end());
      expect_refused_or_faithful(mutated, at.to_string());
    }
  });
}

TEST(PlanMutationTest, TextCutOffOrDamaged) {
  const std::string valid = to_json(gpu_plan()).dump();
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string text = valid;
    for (unsigned changes = random() % 4; changes > 0; --changes)
      text[random() % text.size()] = static_cast<char>(random());
    if (random() % 8 == 0) text.resize(random() % text.size());
    const json mutated = json::parse(text, nullptr, false);
    if (!mutated.is_discarded()) expect_refused_or_faithful(mutated, text);
  }
}

TEST(PlanMutationTest, AnotherVersionIsNamed) {
  json mutated = to_json(gpu_plan());
  mutated["opsplit_plan"] = 1;
  EXPECT_THAT(plan_from_json(mutated).error().message, HasSubstr("version 1"));
}

}  // namespace
}  // namespace opsplit
