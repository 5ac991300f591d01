#include "daemon/onnx_rules_process.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>

#include <fstream>

#include "daemon/paths.hpp"
#include "tests/daemon/temporary_folder.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::daemon {
namespace {

using graph::error_of;
using graph::Ints;
using graph::ModelBuilder;
using graph::value_of;
using testing::HasSubstr;

// Outputs of a question are values like others.
std::string pool(const Ints& strides) {
  ModelBuilder model;
  model.input("x", {1, 1, 2, 6})
      .node("MaxPool", {"x"}, {"y"}, {{"kernel_shape", Ints{1, 2}}, {"strides", strides}});
  return model.proto().SerializeAsString();
}

std::filesystem::path installed() {
  return std::filesystem::path(OPSPLIT_BIN_DIR) / onnx_rules_program;
}

// A program that reads what it is asked and then does as the script says.
std::filesystem::path program(const TemporaryFolder& folder, const std::string& script) {
  const auto path = folder.path() / "program";
  std::ofstream(path) << "#!/bin/sh\nhead -c 8 >/dev/null\n" << script << "\n";
  ::chmod(path.c_str(), 0700);
  return path;
}

TEST(OnnxRulesProcess, AnswersOneQuestionAfterTheOther) {
  OnnxRulesProcess rules(installed());
  for (const std::int64_t width : {3, 1}) {
    onnx::GraphProto types;
    ASSERT_TRUE(types.ParseFromString(value_of(rules.ask(pool({1, width == 3 ? 2 : 6})))));
    ASSERT_EQ(types.value_info_size(), 1);
    EXPECT_EQ(types.value_info(0).type().tensor_type().shape().dim(3).dim_value(), width);
  }
}

TEST(OnnxRulesProcess, SaysWhatOnnxFindsWrong) {
  OnnxRulesProcess rules(installed());
  ModelBuilder model;
  model.input("x", {2, 5}).output("y").node("Det", {"x"}, {"y"});
  const auto wrong = rules.ask(model.proto().SerializeAsString());
  EXPECT_THAT(error_of(wrong), HasSubstr("ONNX finds: "));
  EXPECT_EQ(wrong.error().code, ErrorCode::invalid_input);
  EXPECT_TRUE(rules.ask(pool({1, 1})));
}

// libonnx of today divides by it.
TEST(OnnxRulesProcess, OutlivesWhatEndsTheRules) {
  OnnxRulesProcess rules(installed());
  (void)rules.ask(pool({1, 0}));
  EXPECT_TRUE(rules.ask(pool({1, 1})));
}

TEST(OnnxRulesProcess, ACrashIsAnError) {
  const TemporaryFolder folder;
  OnnxRulesProcess rules(program(folder, "kill -FPE $$"));
  for (int i = 0; i < 2; ++i) {
    const auto crashed = rules.ask(pool({1, 1}));
    EXPECT_THAT(error_of(crashed), HasSubstr("ONNX's rules for types crashed on it: signal 8"));
    EXPECT_EQ(crashed.error().code, ErrorCode::operator_failed);
  }
}

TEST(OnnxRulesProcess, AnAnswerWithoutEndIsNotWaitedFor) {
  const TemporaryFolder folder;
  OnnxRulesProcess rules(program(folder, "yes >&0"));  // far too long, by its first 8 bytes
  EXPECT_THAT(error_of(rules.ask(pool({1, 1}))), HasSubstr("crashed on it: signal 9 (Killed)"));
}

TEST(OnnxRulesProcess, IsNotStartedUnlessAsked) {
  OnnxRulesProcess rules("/nonexistent/program");
  EXPECT_THAT(error_of(rules.ask(pool({1, 1}))), HasSubstr("could not start /nonexistent/program"));
}

}  // namespace
}  // namespace opsplit::daemon
