#include "ipc/arena.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "ipc/iceoryx_runtime.hpp"
#include "tests/ipc/other_process.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::ipc {
namespace {

using test::BrokerProcess;
using test::Child;
using test::eventually;
using test::in_seconds;
using test::mebibyte;
using testing::HasSubstr;

std::atomic<std::uint64_t>* words(const Arena& arena) {
  return reinterpret_cast<std::atomic<std::uint64_t>*>(arena.bytes().data());
}

int mappings_of(const char* file) {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find(file) != std::string::npos) ++count;
  return count;
}

TEST(Arena, IsSharedWithAnotherProcessBothWays) {
  BrokerProcess broker({mebibyte});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, mebibyte));
  const auto arena = Arena::attach("test", {"digits", 1}, mebibyte, in_seconds(10));
  ASSERT_TRUE(arena) << arena.error().message;
  EXPECT_EQ(arena->bytes().size(), mebibyte);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena->bytes().data()) % 4096, 0u);
  words(*arena)[1] = 4711;
  const Child other(test::helper({"attach", "digits", "1", std::to_string(mebibyte)}));
  EXPECT_TRUE(eventually([&] { return words(*arena)[0] == 1; }));
  EXPECT_EQ(words(*arena)[2], 4711u);
}

TEST(Arena, IsZeroWhenFresh) {
  BrokerProcess broker({mebibyte});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, mebibyte));
  const auto arena = Arena::attach("test", {"digits", 1}, mebibyte, in_seconds(10));
  ASSERT_TRUE(arena);
  for (const auto byte : arena->bytes()) ASSERT_EQ(byte, std::byte{0});
}

TEST(Arena, SmallerThanThePlanIsRefused) {
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, 100));
  const auto arena = Arena::attach("test", {"digits", 1}, 4097, in_seconds(10));
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, ErrorCode::refused);
  EXPECT_THAT(arena.error().message, HasSubstr("4096 bytes, this plan needs 4097"));
}

TEST(Arena, WithoutBrokerFailsAtOnce) {
  const auto start = Clock::now();
  const auto arena = Arena::attach("test", {"digits", 1}, 64, in_seconds(10));
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, ErrorCode::unavailable);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));
}

TEST(Arena, BadNamesAreRefused) {
  for (const std::string name : {"", "a/b", "a b", "../x"}) {
    EXPECT_EQ(Arena::attach("test", {name, 1}, 64, in_seconds(1)).error().code,
              ErrorCode::invalid_input);
    EXPECT_EQ(Arena::attach(name, {"digits", 1}, 64, in_seconds(1)).error().code,
              ErrorCode::invalid_input);
  }
}

TEST(Arena, NotPublishedIsWaitedForAndThenTimesOut) {
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, 4096));
  const auto start = Clock::now();
  const auto never = Arena::attach("test", {"digits", 2}, 64, in_seconds(0.5));
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().code, ErrorCode::timed_out);
  EXPECT_THAT(never.error().message, HasSubstr("digits (epoch 2)"));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));

  std::thread later([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_TRUE(BrokerProcess::withdraw({"digits", 1}));
    EXPECT_TRUE(BrokerProcess::publish({"digits", 3}, 4096));
  });
  EXPECT_TRUE(Arena::attach("test", {"digits", 3}, 64, in_seconds(10)));
  later.join();
}

TEST(Arena, OneThatIsWaitedForDoesNotKeepOthersWaiting) {
  const BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"here", 1}, 4096));
  std::thread waits([] {
    const auto never = Arena::attach("test", {"absent", 1}, 64, in_seconds(3));
    EXPECT_EQ(never.error().code, ErrorCode::timed_out);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const auto start = Clock::now();
  EXPECT_TRUE(Arena::attach("test", {"here", 1}, 64, Deadline::max()));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(2));
  waits.join();
}

TEST(Arena, OfAnotherIceoryxVersionIsRefusedByName) {
  const auto last = last_lock_holder(broker_lock_path);  // the next broker wants its note back
  const auto lock = lock_exclusive(broker_lock_path, "iceoryx 9.9.9 mgmt 1");
  ASSERT_TRUE(lock);
  const auto arena = Arena::attach("test", {"digits", 1}, 64, in_seconds(1));
  EXPECT_TRUE(!last || write_lock_note(*lock, last->note));
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, ErrorCode::refused);
  EXPECT_THAT(arena.error().message, HasSubstr("the broker has iceoryx 9.9.9"));
}

TEST(Arena, SeveralThreadsAttachSeveralArenas) {
  BrokerProcess broker({4096, 8192});
  ASSERT_TRUE(BrokerProcess::publish({"a", 1}, 4096));
  ASSERT_TRUE(BrokerProcess::publish({"b", 1}, 8192));
  std::vector<std::thread> threads;
  std::atomic<int> attached{0};
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&attached, i] {
      const auto arena = Arena::attach("test", {i % 2 == 0 ? "a" : "b", 1}, 4096, in_seconds(10));
      if (arena) words(*arena)[0] += 1;
      attached += arena.has_value();
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(attached, 8);
  const auto arena = Arena::attach("test", {"a", 1}, 4096, in_seconds(10));
  ASSERT_TRUE(arena);
  EXPECT_EQ(words(*arena)[0], 4u);
}

TEST(Arena, LeavesNoFilesAndNoThread) {
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, 4096));
  const auto before = test::names_in("/tmp");
  [[maybe_unused]] const auto threads = test::names_in("/proc/self/task").size();
  const auto arena = Arena::attach("test", {"digits", 1}, 64, in_seconds(10));
  ASSERT_TRUE(arena);
  EXPECT_EQ(test::names_in("/tmp"), before);
#ifndef __SANITIZE_THREAD__  // which has a thread itself
  EXPECT_TRUE(eventually([&] { return test::names_in("/proc/self/task").size() == threads; }));
#endif
}

TEST(Arena, IsNotInheritedByAChild) {
  BrokerProcess broker({8192});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, 8192));
  const auto arena = Arena::attach("test", {"digits", 1}, 8192, in_seconds(10));
  ASSERT_TRUE(arena);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto bytes = arena->bytes();
    const bool mapped = ::msync(bytes.data(), bytes.size(), MS_ASYNC) == 0;
    ::_exit(mapped ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// What a client process does: it goes on through the deaths of its brokers.
TEST(Arena, OneProcessOutlivesFiveEpochs) {
  constexpr std::uint64_t epochs = 5;
  std::vector<Arena> arenas;
  for (std::uint64_t epoch = 1; epoch <= epochs; ++epoch) {
    BrokerProcess broker({mebibyte, 2 * mebibyte});
    ASSERT_TRUE(BrokerProcess::publish({"digits", epoch}, 2 * mebibyte));
    auto arena = Arena::attach("client", {"digits", epoch}, 2 * mebibyte, in_seconds(10));
    ASSERT_TRUE(arena) << arena.error().message;
    EXPECT_EQ(words(*arena)[0], 0u);
    words(*arena)[0] = epoch * 100;
    words(*arena)[1] = epoch;
    arenas.push_back(std::move(*arena));
    const Child other(test::helper({"attach", "digits", std::to_string(epoch), "4096"}));
    ASSERT_TRUE(eventually([&] { return words(arenas.back())[0] == epoch * 100 + 1; }));
    EXPECT_EQ(words(arenas.back())[2], epoch);
    broker.stop(SIGKILL);
  }
  for (std::uint64_t epoch = 1; epoch <= epochs; ++epoch)
    EXPECT_EQ(words(arenas[epoch - 1])[0], epoch * 100 + 1);
  EXPECT_EQ(mappings_of("/dev/shm/iceoryx_mgmt"), int{epochs});
  arenas.clear();
  EXPECT_EQ(mappings_of("/dev/shm/iceoryx_mgmt"), 0) << "they take their mappings along";
  test::clean_up_after_kill();
}

TEST(Arena, BrokerThatDiesWhileItIsAskedIsNoticed) {
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::request({{"op", "ping"}}));
  std::thread killer([&broker] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    broker.stop(SIGKILL);
  });
  const auto start = Clock::now();
  const auto arena = Arena::attach("test", {"digits", 1}, 64, in_seconds(30));
  killer.join();
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, ErrorCode::unavailable);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  test::clean_up_after_kill();
}

// iceoryx would go on trying to register with the dead one for a minute.
TEST(Arena, BrokerThatDiesWhileItIsAskedKeepsNobodyFromTheNext) {
  {
    Child mute(test::helper({"mute_broker"}));
    ASSERT_TRUE(eventually([] { return std::filesystem::exists("/tmp/roudi"); }));
    const auto arena = Arena::attach("test", {"digits", 1}, 64, in_seconds(30));
    ASSERT_FALSE(arena);
    EXPECT_EQ(arena.error().code, ErrorCode::unavailable);
    EXPECT_EQ(mute.wait(), 0);
  }
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 2}, 4096));
  const auto arena = Arena::attach("test", {"digits", 2}, 4096, in_seconds(20));
  EXPECT_TRUE(arena) << arena.error().message;
}

TEST(Arena, BrokerThatHangsTimesOutAndServesAgain) {
  BrokerProcess broker({4096});
  ASSERT_TRUE(BrokerProcess::publish({"digits", 1}, 4096));
  broker.signal(SIGSTOP);
  ASSERT_EQ(::waitpid(broker.pid(), nullptr, WUNTRACED), broker.pid());  // all its threads stand
  const auto start = Clock::now();
  const auto hung = Arena::attach("test", {"digits", 1}, 64, in_seconds(0.5));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(2));
  ASSERT_FALSE(hung);
  EXPECT_EQ(hung.error().code, ErrorCode::timed_out);
  broker.signal(SIGCONT);
  const auto arena = Arena::attach("test", {"digits", 1}, 64, in_seconds(10));
  EXPECT_TRUE(arena) << arena.error().message;
}

}  // namespace
}  // namespace opsplit::ipc
