// `opsplit plan --svg`, with the program dot as it is, missing, and failing.
#include <gmock/gmock.h>

#include <fstream>

#include "tests/graph/model_builder.hpp"
#include "tests/system/harness.hpp"

namespace opsplit::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

std::string contents(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class PlanSvg : public SystemTest {
 protected:
  // `opsplit plan MODEL --svg file()`, where programs are looked for in `path`.
  Outcome plan(const std::filesystem::path& path) {
    return Process({"/usr/bin/env", "PATH=" + path.string(), program("opsplit"), "plan",
                    digits_model, "--svg", file()})
        .wait();
  }
  std::filesystem::path fake_dot(const std::string& script) {
    auto path = folder() / "bin";
    std::filesystem::create_directory(path);
    write_file(path / "dot", "#!/bin/sh\n" + script);
    std::filesystem::permissions(path / "dot", std::filesystem::perms::owner_all);
    return path;
  }
  [[nodiscard]] std::filesystem::path file() const { return folder() / "graph.svg"; }
};

bool dot_is_installed() { return Process({"/bin/sh", "-c", "command -v dot"}).wait().status == 0; }

TEST_F(PlanSvg, DrawsOperatorsTensorsAndTheClient) {
  if (!dot_is_installed()) GTEST_SKIP() << "dot is not installed (Debian package graphviz)";
  const Outcome outcome =
      opsplit({"plan", OPSPLIT_SOURCE_DIR "/examples/digits/digits.yaml", "--svg", file()});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const std::string svg = contents(file());
  EXPECT_THAT(svg, HasSubstr("<svg"));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  for (const char* text : {"client", "conv1", "relu4", "probabilities", "1x64x8x8, 16 KiB"})
    EXPECT_THAT(svg, HasSubstr(text));
  EXPECT_THAT(svg, ContainsRegex("conv, [0-9.]+ %"));
}

TEST_F(PlanSvg, NamesOfAModelStayText) {
  if (!dot_is_installed()) GTEST_SKIP() << "dot is not installed (Debian package graphviz)";
  graph::ModelBuilder model;
  model.input("x", {4}).output("y").node("Relu", {"x"}, {"y"}, {}, "a\"];\\N<b>&amp;");
  model.save(folder() / "m<b>&.onnx");
  const Outcome outcome =
      opsplit({"plan", folder() / "m<b>&.onnx", "--name", "m", "--svg", file()});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(contents(file()), HasSubstr("m&lt;b&gt;&amp;.onnx"));
  EXPECT_THAT(contents(file()), HasSubstr("a&quot;];\\N&lt;b&gt;&amp;"));
}

TEST_F(PlanSvg, WithoutDotSaysWhatToDo) {
  const std::string error = error_line(plan(folder() / "nothing"));
  EXPECT_THAT(error, HasSubstr("Debian package graphviz"));
  EXPECT_THAT(error, HasSubstr("--dot"));
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(PlanSvg, AFailingDotIsReportedAndWhatWasThereStays) {
  write_file(file(), "before");
  const auto path = fake_dot("echo '<svg half'; echo 'first words' >&2; echo more >&2; exit 3");
  const std::string error = error_line(plan(path));
  EXPECT_THAT(error, HasSubstr("exit code 3: first words"));
  EXPECT_EQ(contents(file()), "before");
  EXPECT_THAT(error_line(plan(fake_dot("kill -9 $$"))), HasSubstr("signal 9"));
  EXPECT_THAT(error_line(plan(fake_dot("exit 0"))), HasSubstr("it says nothing"));
  EXPECT_EQ(contents(file()), "before");
}

TEST_F(PlanSvg, GetsTheGraphAndGivesThePicture) {
  const Outcome outcome =
      plan(fake_dot("echo \"$@\"; while read -r line; do echo \"$line\"; done"));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(contents(file()), testing::StartsWith("-Tsvg\ndigraph"));
  EXPECT_EQ(opsplit({"plan", digits_model, "--svg", file(), "--dot"}).status, 2);
}

TEST_F(PlanSvg, AFileThatCannotBeWrittenIsNamed) {
  const auto path = fake_dot("echo picture");
  const auto plan_to = [&](const std::string& target) {
    return error_line(Process({"/usr/bin/env", "PATH=" + path.string(), program("opsplit"), "plan",
                               digits_model, "--svg", target})
                          .wait());
  };
  EXPECT_THAT(plan_to("/dev/full"), HasSubstr("/dev/full: No space left on device"));
  EXPECT_THAT(plan_to(folder() / "missing" / "a.svg"), HasSubstr("missing/a.svg: No such file"));
}

}  // namespace
}  // namespace opsplit::test
