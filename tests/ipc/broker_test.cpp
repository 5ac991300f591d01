#include "ipc/broker.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/plan.hpp"
#include "base/system.hpp"
#include "ipc/message_socket.hpp"
#include "tests/ipc/other_process.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::ipc {
namespace {

using test::BrokerProcess;
using test::Child;
using test::eventually;
using test::helper;
using test::in_seconds;
using test::kibibyte;
using test::mebibyte;
using test::names_in;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The tests begin without what a killed broker of an earlier one left.
struct BrokerTest : testing::Test {
  BrokerTest() {
    if (!test::in_private_namespace()) return;
    for (const std::string folder : {"/tmp", "/dev/shm"})
      for (const auto& name : names_in(folder)) std::filesystem::remove_all(folder + "/" + name);
  }
};

// What a broker that refuses to start says.
struct Refusal {
  int status;
  std::string text;
};

Refusal refusal_of(const std::vector<std::uint64_t>& pools,
                   const std::string& socket = BrokerProcess::socket_path) {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  BrokerProcess broker(pools, ends[1], socket);
  ::close(ends[1]);
  Refusal refusal{0, {}};
  char block[1024];
  for (ssize_t count; (count = ::read(ends[0], block, sizeof(block))) > 0;)
    refusal.text.append(block, static_cast<std::size_t>(count));
  ::close(ends[0]);
  refusal.status = broker.wait();
  return refusal;
}

std::optional<std::string> program_in_path(const std::string& name) {
  std::istringstream folders(std::getenv("PATH") == nullptr ? "" : std::getenv("PATH"));
  for (std::string folder; std::getline(folders, folder, ':');)
    if (std::filesystem::exists(folder + "/" + name)) return folder + "/" + name;
  return std::nullopt;
}

// --- Without a process ---

TEST(BrokerBytes, CountPoolsAndManagement) {
  const std::uint64_t one = broker_bytes(std::array{mebibyte}).value();
  EXPECT_GT(one, 60 * mebibyte);
  EXPECT_LT(one, 80 * mebibyte);
  const std::uint64_t two = broker_bytes(std::array{mebibyte, 3 * mebibyte}).value();
  EXPECT_GE(two - one, 3 * mebibyte);
  EXPECT_LT(two - one, 3 * mebibyte + 64 * kibibyte);
}

TEST(BrokerBytes, RefuseWhatIceoryxCannotHold) {
  const auto error = [](std::vector<std::uint64_t> pools) {
    const auto bytes = broker_bytes(pools);
    return bytes ? std::string() : bytes.error().message;
  };
  EXPECT_THAT(error({}), HasSubstr("at least one pool"));
  EXPECT_THAT(error({0}), HasSubstr("0 bytes"));
  EXPECT_THAT(error(std::vector<std::uint64_t>(33, 4096)), HasSubstr("at most 32"));
  EXPECT_THAT(error({std::uint64_t{1} << 32}), HasSubstr("4294955008"));
  EXPECT_THAT(error({~std::uint64_t{0}}), HasSubstr("a pool of 18446744073709551615 bytes"));
  EXPECT_THAT(error(std::vector<std::uint64_t>(3, max_arena_bytes)), HasSubstr("too many pools"));
  EXPECT_EQ(error({max_arena_bytes}), "");
  EXPECT_EQ(error(std::vector<std::uint64_t>(32, std::uint64_t{2} << 30)), "");
}

// --- Start and end ---

TEST_F(BrokerTest, AnswersWhenItIsReady) {
  BrokerProcess broker({2 * mebibyte, mebibyte, mebibyte});
  const auto reply = BrokerProcess::request({{"op", "ping"}});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ((*reply)["pid"], broker.pid());
  EXPECT_EQ((*reply)["processes"], 0);
  ASSERT_EQ((*reply)["pools"].size(), 3u);
  EXPECT_EQ((*reply)["pools"][0]["bytes"], mebibyte);
  EXPECT_EQ((*reply)["pools"][1]["bytes"], mebibyte + 4096);  // pools differ in size
  EXPECT_EQ((*reply)["pools"][2]["bytes"], 2 * mebibyte);
}

TEST_F(BrokerTest, TakesNoMoreSharedMemoryThanItSays) {
  const std::vector<std::uint64_t> pools = {5 * mebibyte, 4097};
  BrokerProcess broker(pools);
  ASSERT_TRUE(BrokerProcess::request({{"op", "ping"}}));
  std::uint64_t bytes = 0;
  for (const auto& name : names_in("/dev/shm"))
    bytes += std::filesystem::file_size("/dev/shm/" + name);
  EXPECT_LE(bytes, broker_bytes(pools).value());
  EXPECT_GT(bytes + 64 * kibibyte, broker_bytes(pools).value());
}

TEST_F(BrokerTest, LeavesNothingAtTheEnd) {
  if (!test::in_private_namespace()) GTEST_SKIP() << "needs a private /tmp and /dev/shm";
  BrokerProcess broker({mebibyte});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, mebibyte));
  const Child attached(helper({"attach", "digits", "1", "4096"}));
  ASSERT_TRUE(eventually([] {
    return (*BrokerProcess::request({{"op", "ping"}}))["processes"] == 1;
  }));
  const std::vector<std::string> files = {"broker", "iox-unique-roudi.lock", "roudi", "roudi.lock"};
  EXPECT_TRUE(eventually([&files] { return names_in("/tmp") == files; }));
  EXPECT_EQ(names_in("/dev/shm").size(), 3u);
  EXPECT_EQ(broker.stop(SIGTERM), 0);
  EXPECT_THAT(names_in("/tmp"), ElementsAre("broker"));
  EXPECT_THAT(names_in("/tmp/broker"), IsEmpty());
  EXPECT_THAT(names_in("/dev/shm"), IsEmpty());
  EXPECT_EQ(::kill(attached.pid(), 0), 0);  // RouDi's own end would have signalled it
}

TEST_F(BrokerTest, StartsAgainAfterItWasKilled) {
  for (int life = 0; life < 3; ++life) {
    BrokerProcess broker({mebibyte});
    ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, mebibyte));
    const Child attached(helper({"attach", "digits", "1", "4096"}));
    ASSERT_TRUE(eventually([] {
      return (*BrokerProcess::request({{"op", "ping"}}))["processes"] == 1;
    }));
    broker.stop(SIGKILL);
    // Also while a process of the old epoch still has the old segments.
    std::ofstream("/tmp/opsplit.runtime.killed.1.0.lock") << "";
    BrokerProcess next({mebibyte});
    EXPECT_TRUE(BrokerProcess::publish({"digits", 2}, mebibyte));
    EXPECT_FALSE(std::filesystem::exists("/tmp/opsplit.runtime.killed.1.0.lock"));
    EXPECT_EQ(next.stop(SIGKILL), -SIGKILL);
  }
  test::clean_up_after_kill();
}

TEST_F(BrokerTest, SurvivesClosedPipesAndHangups) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  BrokerProcess broker({mebibyte}, ends[1]);
  ::close(ends[1]);
  ASSERT_TRUE(BrokerProcess::request({{"op", "ping"}}));
  ::close(ends[0]);
  broker.signal(SIGHUP);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(BrokerProcess::publish({"digits", 1}, mebibyte));
    EXPECT_TRUE(BrokerProcess::withdraw({"digits", 1}));
  }
}

// --- Who else is there ---

TEST_F(BrokerTest, SecondOneIsRefusedByName) {
  BrokerProcess broker({mebibyte});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, mebibyte));
  const auto second = refusal_of({mebibyte}, "/tmp/broker/other");
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.text, AllOf(HasSubstr("another broker is running"),
                                 HasSubstr(std::to_string(broker.pid()))));
  // The first one is as it was.
  EXPECT_TRUE(Arena::attach("test", {"digits", 1}, mebibyte, in_seconds(10)));
}

TEST_F(BrokerTest, ForeignRoudiIsRefusedByName) {
  const FileDescriptor lock(
      ::open("/tmp/iox-unique-roudi.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
  const auto refusal = refusal_of({mebibyte});
  EXPECT_EQ(refusal.status, 1);
  EXPECT_THAT(refusal.text, AllOf(HasSubstr("another RouDi is running"),
                                  HasSubstr(std::to_string(::getpid()) + " (ipc_tests)")));
  EXPECT_TRUE(std::filesystem::exists("/tmp/iox-unique-roudi.lock"));
}

TEST_F(BrokerTest, RealRoudiIsRefusedAndGoesOn) {
  const auto program = program_in_path("iox-roudi");
  if (!program) GTEST_SKIP() << "needs iox-roudi (Debian package iceoryx)";
  const Child roudi({*program});
  ASSERT_TRUE(eventually([] {  // another's socket may have been there before
    const FileDescriptor lock(::open("/tmp/roudi.lock", O_RDWR | O_CLOEXEC));
    return lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0;
  }));
  const auto refusal = refusal_of({mebibyte});
  EXPECT_EQ(refusal.status, 1);
  EXPECT_THAT(refusal.text, HasSubstr("(iox-roudi)"));
  EXPECT_EQ(::kill(roudi.pid(), 0), 0);
  EXPECT_TRUE(std::filesystem::exists("/dev/shm/iceoryx_mgmt"));
  EXPECT_TRUE(std::filesystem::exists("/tmp/roudi"));
}

TEST_F(BrokerTest, ForeignRoudiWithAnotherTmpIsRefusedByName) {
  {
    std::ofstream("/dev/shm/iceoryx_mgmt") << std::string(4096, 'x');
    const FileDescriptor file(::open("/dev/shm/iceoryx_mgmt", O_RDWR | O_CLOEXEC));
    void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
    ASSERT_NE(mapped, MAP_FAILED);
    const auto refusal = refusal_of({mebibyte});
    ::munmap(mapped, 4096);
    EXPECT_EQ(refusal.status, 1);
    EXPECT_THAT(refusal.text, AllOf(HasSubstr("is in use by"), HasSubstr("(ipc_tests)")));
    EXPECT_EQ(std::filesystem::file_size("/dev/shm/iceoryx_mgmt"), 4096u);
  }
  // With nobody there it is a dead one's, and goes.
  BrokerProcess broker({mebibyte});
  EXPECT_TRUE(BrokerProcess::request({{"op", "ping"}}));
}

TEST_F(BrokerTest, ARoudiInAnotherDevShmIsNoneOfOurs) {
  if (!test::in_private_namespace()) GTEST_SKIP() << "needs a private /dev/shm";
  const auto write = [](const char* file) {
    std::ofstream(file) << std::string(4096, 'x');
    struct stat info {};
    EXPECT_EQ(::stat(file, &info), 0);
    return info.st_ino;
  };
  const auto inode = write("/dev/shm/iceoryx_mgmt");
  const FileDescriptor file(::open("/dev/shm/iceoryx_mgmt", O_RDWR | O_CLOEXEC));
  void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  // Each tmpfs counts its inodes by itself: this one's file gets the same number.
  ASSERT_EQ(::mount("tmpfs", "/dev/shm", "tmpfs", 0, "inode64"), 0);
  for (int other = 0; write("/dev/shm/iceoryx_mgmt") < inode; ++other)
    std::filesystem::rename("/dev/shm/iceoryx_mgmt", fmt::format("/dev/shm/other{}", other));
  {
    BrokerProcess broker({mebibyte});
    EXPECT_TRUE(BrokerProcess::request({{"op", "ping"}}));
  }
  ASSERT_EQ(::umount2("/dev/shm", MNT_DETACH), 0);
  ::munmap(mapped, 4096);
  std::filesystem::remove("/dev/shm/iceoryx_mgmt");
}

TEST_F(BrokerTest, TooSmallSharedMemoryIsRefusedInBytes) {
  if (!test::in_private_namespace()) GTEST_SKIP() << "needs a private /dev/shm";
  ASSERT_EQ(::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=67108864"), 0);
  const auto refusal = refusal_of({8 * mebibyte});
  const auto left = names_in("/dev/shm");
  ASSERT_EQ(::umount("/dev/shm"), 0);
  EXPECT_EQ(refusal.status, 1);
  const auto needed = std::to_string(broker_bytes(std::array{8 * mebibyte}).value());
  EXPECT_THAT(refusal.text,
              HasSubstr("/dev/shm is too small: the broker needs " + needed + " bytes"));
  EXPECT_THAT(refusal.text, HasSubstr(" are free"));
  EXPECT_THAT(left, IsEmpty());
}

// --- Arenas ---

TEST_F(BrokerTest, TooLargeArenaIsRefusedInBytes) {
  BrokerProcess broker({mebibyte, 64 * kibibyte});
  const auto refused = BrokerProcess::publish({"digits", 1}, mebibyte + 1000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::limit_exceeded);
  EXPECT_THAT(refused.error().message, HasSubstr("1000 bytes are missing"));
  EXPECT_EQ(BrokerProcess::publish({"digits", 1}, ~std::uint64_t{0}).error().code,
            ErrorCode::limit_exceeded);
  EXPECT_EQ(BrokerProcess::publish({"digits", 1}, 0).error().code, ErrorCode::invalid_input);
}

TEST_F(BrokerTest, ArenaGetsTheSmallestFreePoolThatFits) {
  BrokerProcess broker({64 * kibibyte, 64 * kibibyte, mebibyte});
  EXPECT_TRUE(BrokerProcess::publish({"a", 1}, 1));
  EXPECT_FALSE(BrokerProcess::pool_is_free(0));
  EXPECT_TRUE(BrokerProcess::publish({"b", 1}, 64 * kibibyte));
  EXPECT_FALSE(BrokerProcess::pool_is_free(1));
  EXPECT_TRUE(BrokerProcess::publish({"c", 1}, 1));  // only the large one is left
  EXPECT_FALSE(BrokerProcess::pool_is_free(2));
  EXPECT_EQ(BrokerProcess::publish({"d", 1}, 1).error().code, ErrorCode::limit_exceeded);
  EXPECT_EQ(BrokerProcess::publish({"a", 1}, 1).error().code, ErrorCode::already_exists);
  EXPECT_EQ(BrokerProcess::withdraw({"a", 2}).error().code, ErrorCode::not_found);
}

TEST_F(BrokerTest, WithdrawnMemoryIsUsedAgainAHundredTimes) {
  BrokerProcess broker({mebibyte});
  std::optional<std::uint64_t> inside;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(BrokerProcess::publish({"digits", i}, mebibyte)) << i;
    if (i % 10 == 0) {
      const auto arena = Arena::attach("test", {"digits", i}, mebibyte, in_seconds(10));
      ASSERT_TRUE(arena) << arena.error().message;
      auto* word = reinterpret_cast<std::uint64_t*>(arena->bytes().data());
      EXPECT_EQ(*word, inside.value_or(0)) << "not the memory of the last time";
      *word = i;
      inside = i;
    }
    ASSERT_TRUE(BrokerProcess::withdraw({"digits", i}));
    ASSERT_TRUE(BrokerProcess::pool_is_free(0)) << i;
  }
}

TEST_F(BrokerTest, MemoryOfAKilledProcessComesBack) {
  BrokerProcess broker({mebibyte});
  for (int round = 1; round <= 5; ++round) {
    const ArenaId id{"digits", static_cast<std::uint64_t>(round)};
    ASSERT_TRUE(BrokerProcess::publish(id, mebibyte));
    Child attached(helper({"attach", "digits", std::to_string(round), "4096"}));
    auto mine = Arena::attach("test", id, mebibyte, in_seconds(10));
    ASSERT_TRUE(mine);
    std::optional<Arena> arena(std::move(*mine));
    ASSERT_TRUE(eventually([&] { return arena->bytes()[0] != std::byte{0}; }));
    arena->bytes()[0] = std::byte{0};
    attached.stop(SIGKILL);
    // This process still holds it.
    ASSERT_TRUE(BrokerProcess::withdraw(id));
    ASSERT_FALSE(BrokerProcess::pool_is_free(0));
    EXPECT_EQ(BrokerProcess::publish({"other", 1}, 1).error().code, ErrorCode::limit_exceeded);
    arena->bytes()[100] = std::byte{1};
    arena.reset();
    EXPECT_TRUE(eventually([] { return BrokerProcess::pool_is_free(0); }));
  }
}

// iceoryx alone refuses the 301st process, and every process that was killed counts.
TEST_F(BrokerTest, FourHundredProcessesComeAndAreKilled) {
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, 4096));
  const auto arena = Arena::attach("test", {"digits", 1}, 4096, in_seconds(10));
  ASSERT_TRUE(arena);
  auto* count = reinterpret_cast<std::atomic<std::uint64_t>*>(arena->bytes().data());
  for (std::uint64_t i = 1; i <= 400; ++i) {
    Child attached(helper({"attach", "digits", "1", "4096"}));
    ASSERT_TRUE(eventually([&] { return *count == i; })) << i;
    attached.stop(SIGKILL);
  }
  EXPECT_TRUE(eventually([] {
    return (*BrokerProcess::request({{"op", "ping"}}))["processes"] == 1;
  }));
  EXPECT_TRUE(Arena::attach("test", {"digits", 1}, 4096, in_seconds(10)));
}

// --- Hostile requests ---

TEST_F(BrokerTest, BadRequestsAreRefusedAndItGoesOn) {
  BrokerProcess broker({mebibyte});
  const nlohmann::json digits = {{"op", "publish"}, {"deployment", "digits"}, {"epoch", 1}};
  const auto with = [&digits](const char* key, const nlohmann::json& value) {
    auto request = digits;
    request["bytes"] = 1;
    request[key] = value;
    return request;
  };
  for (const nlohmann::json& request :
       {nlohmann::json(), nlohmann::json(7), nlohmann::json::array({1}), nlohmann::json::object(),
        nlohmann::json{{"op", "fly"}}, nlohmann::json{{"op", nullptr}}, digits, with("bytes", -1),
        with("bytes", "1"), with("bytes", 1.5), with("epoch", "x"), with("deployment", 1),
        with("deployment", "a/../b"), with("deployment", std::string(1000, 'a'))}) {
    const auto reply = BrokerProcess::request(request);
    ASSERT_FALSE(reply) << request;
    EXPECT_EQ(reply.error().code, ErrorCode::invalid_input) << request;
  }
  EXPECT_TRUE(BrokerProcess::request({{"op", "ping"}}));
}

TEST_F(BrokerTest, ManyIdleConnectionsDoNotKeepOthersOut) {
  BrokerProcess broker({mebibyte});
  ASSERT_TRUE(BrokerProcess::request({{"op", "ping"}}));
  std::vector<MessageSocket> idle;
  for (int i = 0; i < 100; ++i) {
    auto socket = MessageSocket::connect(BrokerProcess::socket_path, in_seconds(10));
    ASSERT_TRUE(socket);
    idle.push_back(std::move(*socket));
  }
  EXPECT_TRUE(BrokerProcess::request({{"op", "ping"}}));
}

TEST(BrokerProgram, NamesWhatIsWrongWithItsOptions) {
  EXPECT_NE(Child({OPSPLIT_BIN_DIR "/opsplit-broker", "--pool", "64"}).wait(), 0);
  EXPECT_NE(
      Child({OPSPLIT_BIN_DIR "/opsplit-broker", "--socket", "/tmp/x/y", "--pool", "-3"}).wait(), 0);
  EXPECT_EQ(Child({OPSPLIT_BIN_DIR "/opsplit-broker", "--help"}).wait(), 0);
}

}  // namespace
}  // namespace opsplit::ipc
