// Operators that opsplitd did not start.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <csignal>
#include <fstream>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::HasSubstr;

class Attach : public SystemTest {
 protected:
  std::string deployment_file() {
    const auto file = folder() / "digits.yaml";
    write_file(file, std::string("model: ") + digits_model +
                         "\nsplit: by-type\noperators:\n  conv: {backend: attach, cores: \"0\"}\n");
    return file;
  }
  static Process start_operator(const std::string& op, const std::string& name = "digits") {
    return Process({program("opsplit-operator"), "--socket", socket_path().string(), "--deployment",
                    name, "--operator", op});
  }
  static std::string conv_state() {
    const json conv = instance("digits", "conv");
    return conv.is_null() ? "" : conv["state"].get<std::string>();
  }
};

std::string affinity_of(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Cpus_allowed_list:")) return line.substr(line.find('\t') + 1);
  return "";
}

TEST_F(Attach, UpWaitsForItAndItsDeathIsMendedByWhoeverStartsItAgain) {
  Process up = start_opsplit({"up", deployment_file()});
  ASSERT_TRUE(eventually([&] { return conv_state() == "awaited" || up.has_ended(); }));
  EXPECT_TRUE(eventually([&] { return up.err().find("waiting for conv") != std::string::npos; }));
  {
    Process conv = start_operator("conv");
    EXPECT_EQ(up.wait().status, 0);
    EXPECT_EQ(instance("digits", "conv")["pid"], conv.pid());
    EXPECT_EQ(affinity_of(conv.pid()), "0");
    find_answers("digits", 50, folder() / "answers");
    conv.signal(SIGKILL);
    EXPECT_TRUE(eventually([] { return conv_state() == "awaited"; }));
  }
  Process again = start_operator("conv");
  EXPECT_TRUE(eventually([] { return conv_state() == "ready"; }));
  find_answers("digits", 50, folder() / "answers");
  down();
  EXPECT_EQ(again.wait().status, 0) << "it ends with the deployment";
}

TEST_F(Attach, AnOperatorOutlivesItsOpsplitdAndWaitsForADeployment) {
  Process conv({program("opsplit-operator"), "--socket", socket_path().string(), "--deployment",
                "digits", "--operator", "conv", "--wait", "60"});
  up({deployment_file()});
  ::kill(ps()["pid"].get<pid_t>(), SIGKILL);
  ASSERT_TRUE(eventually([] { return conv_state() == "ready"; }));
  EXPECT_EQ(instance("digits", "conv")["pid"], conv.pid());
  find_answers("digits", 20, folder() / "answers");
  down();
  EXPECT_EQ(conv.wait().status, 0);
}

TEST_F(Attach, WhoHasNoPlaceIsRefusedByName) {
  Process up = start_opsplit({"up", deployment_file()});
  ASSERT_TRUE(eventually([&] { return conv_state() == "awaited" || up.has_ended(); }));
  const auto refusal = [](const std::string& op, const std::string& deployment = "digits") {
    const Outcome outcome = start_operator(op, deployment).wait();
    EXPECT_EQ(outcome.status, 1);
    return outcome.err;
  };
  EXPECT_THAT(refusal("nobody"), HasSubstr("has no operator 'nobody'"));
  EXPECT_THAT(refusal("relu"), HasSubstr("opsplitd itself starts operator 'relu'"));
  EXPECT_THAT(refusal("conv", "other"), HasSubstr("no deployment 'other'"));
  Process conv = start_operator("conv");
  EXPECT_EQ(up.wait().status, 0);
  EXPECT_THAT(refusal("conv"),
              HasSubstr(fmt::format("is there already: digits/conv.0 (pid {})", conv.pid())));
  EXPECT_THAT(error_line(opsplit({"logs", "digits/conv"})), HasSubstr("did not start it"));
  down();
}

}  // namespace
}  // namespace opsplit::test
