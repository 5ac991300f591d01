// What outlasts a deployment: weights, packed weights and graphs in the cache on disk.
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <map>

#include "base/system.hpp"
#include "daemon/paths.hpp"
#include "tests/private_namespace.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Cache : public SystemTest {
 protected:
  void SetUp() override {
    if (!in_private_namespace()) GTEST_SKIP() << "would use the cache of the user who tests";
  }
  ~Cache() override {
    for (const auto& [file, inode] : files()) std::filesystem::remove(file);
    std::filesystem::permissions(cache, std::filesystem::perms::owner_all);
  }

  // By name, with their inodes.
  std::map<std::filesystem::path, ino_t> files() {
    std::map<std::filesystem::path, ino_t> found;
    for (const auto& entry : std::filesystem::directory_iterator(cache)) {
      struct stat info {};
      if (::stat(entry.path().c_str(), &info) == 0) found[entry.path()] = info.st_ino;
    }
    return found;
  }

  // Of a deployment that runs: what it has in /dev/shm although a cache is there for it.
  static std::vector<std::string> packed_elsewhere() {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator("/dev/shm"))
      if (entry.path().filename().string().starts_with("packed-")) found.push_back(entry.path());
    return found;
  }

  std::vector<float> up_and_answers() {
    up({digits_model, "--split", "stages:3"});
    find_answers("digits", 20, folder() / "answers");
    const std::string bytes = read_file(folder() / "answers").value();
    std::vector<float> answers(bytes.size() / sizeof(float));
    std::memcpy(answers.data(), bytes.data(), bytes.size());
    return answers;
  }

  const std::filesystem::path cache = daemon::cache_folder();
};

TEST_F(Cache, ASecondStartMakesNothingAgain) {
  ASSERT_THAT(files(), IsEmpty());
  const auto answers = up_and_answers();
  EXPECT_THAT(packed_elsewhere(), IsEmpty());
  const auto made = files();
  EXPECT_THAT(made, Not(IsEmpty()));
  down();
  EXPECT_EQ(up_and_answers(), answers);
  EXPECT_EQ(files(), made);
  ::kill(instance("digits", "stage1").at("pid").get<pid_t>(), SIGKILL);
  EXPECT_TRUE(eventually([] {
    const json restarted = instance("digits", "stage1");
    return restarted["restarts"] == 1 && restarted["state"] == "ready";
  }));
  EXPECT_EQ(files(), made);
  down();
}

TEST_F(Cache, EmptiedUnderADeploymentItHoldsUpNoRestart) {
  const auto answers = up_and_answers();
  for (int time = 0; time < 2; ++time) {
    for (const auto& [file, inode] : files()) std::filesystem::remove(file);
    const json before = instance("digits", "stage1");
    ::kill(before["pid"].get<pid_t>(), SIGKILL);
    EXPECT_TRUE(eventually([&] {
      const json now = instance("digits", "stage1");
      return now["state"] == "ready" && now["pid"] != before["pid"];
    })) << ps().dump(2);
  }
  ::kill(ps()["broker"].get<pid_t>(), SIGKILL);
  EXPECT_TRUE(eventually([] {
    const json digits = deployment("digits");
    return digits.is_object() && digits["epoch"] == 2 && digits["phase"] == "ready";
  })) << ps().dump(2);
  down();
}

TEST_F(Cache, DamagedFilesAreMadeAnewAndAnswersStayRight) {
  const auto answers = up_and_answers();
  down();
  const auto made = files();
  const auto damage = [&](const std::function<void(std::string&)>& how) {
    for (const auto& [file, inode] : made) {
      std::string bytes = read_file(file).value();
      how(bytes);
      std::filesystem::remove(file);
      write_file(file, bytes);
    }
    const auto damaged = files();
    const auto again = up_and_answers();
    ASSERT_EQ(again.size(), answers.size());
    // An algorithm that is chosen anew may be another one, with packed weights of its own.
    for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_NEAR(again[i], answers[i], 1e-5);
    for (const auto& [file, inode] : files()) {
      const std::filesystem::path path = file;
      if (path.filename().string().starts_with("packed-")) continue;
      EXPECT_NE(damaged.at(file), inode) << file;
    }
    down();
  };
  damage([](std::string& bytes) { bytes.resize(bytes.size() / 2); });
  damage([](std::string& bytes) { bytes.back() = static_cast<char>(bytes.back() ^ 0x40); });
  damage([](std::string& bytes) { bytes.assign(bytes.size(), '\0'); });
}

TEST_F(Cache, WithoutOneEverythingWorks) {
  std::filesystem::permissions(cache, std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  const auto answers = up_and_answers();
  EXPECT_THAT(packed_elsewhere(), Not(IsEmpty()));
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_THAT(opsplit({"doctor"}).out, HasSubstr("not used"));
  down();
  std::filesystem::permissions(cache, std::filesystem::perms::owner_all);
  EXPECT_THAT(opsplit({"doctor"}).out, ContainsRegex("cache .*: 0 of 4096 MiB"));

  ASSERT_EQ(::mount("tmpfs", cache.c_str(), "tmpfs", 0, "size=8192,mode=0700"), 0);
  const auto again = up_and_answers();
  for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_NEAR(again[i], answers[i], 1e-5);
  EXPECT_THAT(packed_elsewhere(), Not(IsEmpty()));
  down();
  ASSERT_EQ(::umount2(cache.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace opsplit::test
