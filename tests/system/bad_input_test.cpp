// Bad input: one clear line, status 1, nothing started and nothing left.
#include <gmock/gmock.h>
#include <sys/mount.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "tests/graph/model_builder.hpp"
#include "tests/private_namespace.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using graph::ModelBuilder;
using testing::HasSubstr;

class BadInput : public SystemTest {
 protected:
  // Both what only looks and what starts refuse it, in the same words.
  void expect_refused(const std::filesystem::path& file, const std::vector<std::string>& words) {
    const std::string planned = error_line(opsplit({"plan", file}));
    EXPECT_EQ(error_line(opsplit({"up", file})), planned);
    EXPECT_THAT(planned, HasSubstr(file.filename().string()));
    for (const std::string& word : words) EXPECT_THAT(planned, HasSubstr(word));
    EXPECT_THAT(leftovers(), testing::IsEmpty());
  }

  void expect_model_refused(const ModelBuilder& model, const std::vector<std::string>& words) {
    model.save(folder() / "bad.onnx");
    expect_refused(folder() / "bad.onnx", words);
  }

  void expect_deployment_refused(const std::string& lines, int line,
                                 const std::vector<std::string>& words) {
    write_file(folder() / "bad.yaml", fmt::format("name: bad\nmodel: {}\n{}", digits_model, lines));
    auto all = words;
    all.push_back(fmt::format("bad.yaml:{}: ", line));
    expect_refused(folder() / "bad.yaml", all);
  }
};

TEST_F(BadInput, NoSuchModel) { expect_refused(folder() / "missing.onnx", {"there is no file"}); }

TEST_F(BadInput, AModelThatIsCutOff) {
  std::ifstream file(digits_model, std::ios::binary);
  std::ostringstream whole;
  whole << file.rdbuf();
  write_file(folder() / "cut.onnx", whole.str().substr(0, whole.str().size() / 2));
  expect_refused(folder() / "cut.onnx", {});
}

TEST_F(BadInput, AFileThatIsNotOnnx) {
  write_file(folder() / "text.onnx", "These are not the bytes that you are looking for.\n");
  expect_refused(folder() / "text.onnx", {"ONNX"});
  write_file(folder() / "empty.onnx", "");
  expect_refused(folder() / "empty.onnx", {});
}

TEST_F(BadInput, AnUnknownOpIsNamed) {
  expect_model_refused(
      ModelBuilder().input("x", {1, 4}).node("Frobnicate", {"x"}, {"y"}, {}, "frob").output("y"),
      {"Frobnicate"});
}

TEST_F(BadInput, ACycle) {
  expect_model_refused(ModelBuilder()
                           .input("x", {1, 4})
                           .node("Add", {"x", "b"}, {"a"}, {}, "first")
                           .node("Relu", {"a"}, {"b"}, {}, "second")
                           .output("b"),
                       {"cycle"});
}

TEST_F(BadInput, AShapeThatOverflows) {
  expect_model_refused(ModelBuilder()
                           .input("x", {std::int64_t{1} << 40, std::int64_t{1} << 40})
                           .node("Relu", {"x"}, {"y"}, {}, "r")
                           .output("y"),
                       {"x"});
}

TEST_F(BadInput, ADeploymentFileNamesTheLine) {
  expect_deployment_refused("split: by-type\ndeepth: 8\n", 4, {"deepth", "depth"});
  expect_deployment_refused("depth: many\n", 3, {"depth", "many"});
  expect_deployment_refused("\nsplit: sideways\n", 4, {"sideways", "by-type"});
  expect_deployment_refused("split: stages:0\n", 3, {"stages:0"});
  expect_deployment_refused("operators:\n  conv: {coers: 1}\n", 4, {"coers"});
  expect_deployment_refused("depth: [1\n", 4, {});
}

TEST_F(BadInput, AnOperatorThatTheSplitDoesNotHave) {
  write_file(folder() / "bad.yaml",
             fmt::format("model: {}\noperators:\n  convolution: {{cores: 1}}\n", digits_model));
  expect_refused(folder() / "bad.yaml", {"convolution"});
}

// A /dev/shm of `size` for the time of the test.
class SmallSharedMemory {
 public:
  explicit SmallSharedMemory(const char* size)
      : mounted_(in_private_namespace() &&
                 ::mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV,
                         (std::string("mode=1777,size=") + size).c_str()) == 0) {}
  ~SmallSharedMemory() {
    if (mounted_) ::umount2("/dev/shm", MNT_DETACH);
  }
  SmallSharedMemory(const SmallSharedMemory&) = delete;
  SmallSharedMemory& operator=(const SmallSharedMemory&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  bool mounted_;
};

class SmallShm : public SystemTest, public testing::WithParamInterface<const char*> {};

// 512 KiB do not hold the weights; 8 MiB hold them, but not RouDi's segment.
TEST_P(SmallShm, IsRefusedWithTheBytesNeededAndFound) {
  {
    const SmallSharedMemory small(GetParam());
    if (!small.mounted()) GTEST_SKIP() << "no private /dev/shm on this system";
    const Outcome outcome = opsplit({"up", digits_model});
    EXPECT_THAT(error_line(outcome),
                testing::ContainsRegex("/dev/shm is too small.*[0-9]+ bytes.*[0-9]+"));
    EXPECT_THAT(leftovers(), testing::IsEmpty());
  }
}

class TightShm : public SystemTest {};

TEST_F(TightShm, RefusesADeploymentThatWouldNeedANextEpochBesideThisOne) {
  const SmallSharedMemory small("100m");
  if (!small.mounted()) GTEST_SKIP() << "no private /dev/shm on this system";
  up({digits_model, "--name", "one", "--reserve", "4096"});
  const std::uint64_t epoch = deployment("one")["epoch"];
  const auto file = folder() / "deep.yaml";
  write_file(file, std::string("model: ") + digits_model + "\nname: deep\ndepth: 64\n");
  const std::string refused = error_line(opsplit({"up", file}));
  EXPECT_THAT(refused, HasSubstr("bytes are missing"));
  EXPECT_THAT(refused, HasSubstr("--reserve"));
  EXPECT_EQ(deployment("one")["epoch"], epoch);
  EXPECT_EQ(ps()["deployments"].size(), 1u);

  // A broker that has died needs a successor all the same: once the earlier epoch has ended.
  ::kill(ps()["broker"].get<pid_t>(), SIGKILL);
  EXPECT_TRUE(eventually([&] {
    const json one = deployment("one");
    return one["phase"] == "ready" && one["epoch"] > epoch;
  })) << ps().dump(2);
  find_answers("one", 20, folder() / "one");
  down();
}

TEST_F(TightShm, ClientsGoOnInTheNextEpochOnceTheEarlierOneHasEnded) {
  const SmallSharedMemory small("100m");
  if (!small.mounted()) GTEST_SKIP() << "no private /dev/shm on this system";
  up({digits_model, "--reserve", "4096"});
  const auto answers = folder() / "answers";
  find_answers("digits", 100, answers);
  Load load({.answers = answers, .count = 100, .in_flight = 1, .repeat = true});
  for (int death = 0; death < 3; ++death) {
    const std::uint64_t answered = load.answered();
    ASSERT_TRUE(eventually([&] { return load.answered() > answered + 50; })) << ps().dump(2);
    const std::uint64_t epoch = deployment("digits")["epoch"];
    ::kill(ps()["broker"].get<pid_t>(), SIGKILL);
    ASSERT_TRUE(eventually([&] {
      const json digits = deployment("digits");
      return digits.is_object() && digits["phase"] == "ready" && digits["epoch"] > epoch;
    })) << ps().dump(2);
  }
  const Report report = load.finish();
  EXPECT_EQ(report.wrong + report.failed + report.epochs_lost, 0u) << report.error;
  down();
}

INSTANTIATE_TEST_SUITE_P(Sizes, SmallShm, testing::Values("512k", "8m"));

}  // namespace
}  // namespace opsplit::test
