#include "operators/cores_follower.hpp"

#include <gmock/gmock.h>
#include <sys/socket.h>

#include <array>
#include <latch>
#include <thread>

#include "tests/operators/fake_affinity.hpp"

namespace opsplit::operators {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using operators::testing::FakeAffinity;
using ::testing::ElementsAre;

struct FakeOperator final : Operator {
  explicit FakeOperator(int number_of_threads) : threads(number_of_threads) {}
  Result<> run(std::size_t, std::span<const TensorView>, std::span<const MutableTensorView>,
               RunContext&) override {
    return {};
  }
  int threads;
};

class CoresFollowerTest : public ::testing::Test {
 protected:
  // opsplitd has other cores for the process.
  void change() { self.cores_version.fetch_add(1); }
  void answer(const CpuSet& cpus, int threads, std::uint64_t spin_ns = 0) {
    send(ipc::to_json(ipc::AssignedCores{cpus, threads, {.spin_ns = spin_ns}}));
  }
  void send(const json& message) { ASSERT_TRUE(opsplitd.send(message, Clock::now() + 10s)); }
  bool is_asked() {
    const auto message = opsplitd.try_receive();
    EXPECT_TRUE(message) << message.error().message;
    return *message && **message == question;
  }
  // Between two tasks, again and again.
  template <class Condition>
  bool follow_until(Condition holds) {
    for (const Deadline deadline = Clock::now() + 10s; !holds() && Clock::now() < deadline;) {
      follower.follow(op);
      std::this_thread::yield();
    }
    return holds();
  }
  [[nodiscard]] int threads() const { return static_cast<FakeOperator&>(*op).threads; }

  Result<std::unique_ptr<Operator>> compile(int threads) {
    EXPECT_EQ(compiling.fetch_add(1), 0) << "two at a time";
    compiled.push_back(threads);
    if (compile_when != nullptr) compile_when->wait();
    compiling.fetch_sub(1);
    if (throws) throw std::bad_alloc();
    if (fails) return fail(ErrorCode::limit_exceeded, "no room");
    return std::make_unique<FakeOperator>(threads);
  }

  static std::array<ipc::MessageSocket, 2> connected() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {ipc::MessageSocket::adopt(FileDescriptor(ends[0])).value(),
            ipc::MessageSocket::adopt(FileDescriptor(ends[1])).value()};
  }

  std::array<ipc::MessageSocket, 2> sockets = connected();
  ipc::MessageSocket& opsplitd = sockets[1];
  const json question = {{"op", "cores"}};
  ipc::Participant self{};
  FakeAffinity affinity{{0, 1}};
  ThreadPlacement placement{affinity};
  std::atomic<int> compiling = 0;
  std::vector<int> compiled;           // for so many threads, in order
  std::latch* compile_when = nullptr;  // null: at once
  bool fails = false, throws = false;
  std::unique_ptr<Operator> op = std::make_unique<FakeOperator>(2);
  CoresFollower follower{self,
                         {sockets[0], "/nonexistent", question},
                         {{0, 1}, 2, {}},
                         placement,
                         [this](int threads) { return compile(threads); }};
};

TEST_F(CoresFollowerTest, AsksOnlyWhenTheVersionChangesAndOnce) {
  EXPECT_EQ(self.threads, 2u);
  EXPECT_EQ(follower.follow(op), std::nullopt);
  EXPECT_FALSE(is_asked());
  change();
  EXPECT_EQ(follower.follow(op), std::nullopt);
  EXPECT_TRUE(is_asked());
  EXPECT_EQ(follower.follow(op), std::nullopt);
  EXPECT_FALSE(is_asked());
  EXPECT_EQ(self.cores_followed, 0u);
}

TEST_F(CoresFollowerTest, AffinityAndWaitingFollowWithTheAnswer) {
  change();
  follower.follow(op);
  affinity.set.clear();
  answer({2, 3}, 2, 100);
  const auto waiting = follower.follow(op);
  ASSERT_TRUE(waiting);
  EXPECT_EQ(waiting->spin_ns, 100u);
  EXPECT_THAT(placement.cpus(), ElementsAre(2, 3));
  EXPECT_THAT(affinity.set[0], ElementsAre(CpuSet{2}));
  EXPECT_THAT(affinity.set[1], ElementsAre(CpuSet{3}));
  EXPECT_EQ(self.cores_followed, 1u);
  EXPECT_TRUE(compiled.empty()) << "the programs are for as many threads already";
}

TEST_F(CoresFollowerTest, TheOldProgramsServeUntilTheNewOnesAreThere) {
  std::latch when(1);
  compile_when = &when;
  change();
  follower.follow(op);
  answer({1}, 1);
  ASSERT_TRUE(follow_until([&] { return compiling == 1; }));
  EXPECT_EQ(follower.follow(op), std::nullopt);
  EXPECT_EQ(threads(), 2);
  EXPECT_EQ(self.threads, 2u);
  EXPECT_EQ(self.cores_followed, 0u);
  when.count_down();
  ASSERT_TRUE(follow_until([&] { return self.cores_followed == 1; }));
  EXPECT_EQ(threads(), 1);
  EXPECT_EQ(self.threads, 1u);
}

TEST_F(CoresFollowerTest, AChangeWhileItCompilesIsFollowedAfterwards) {
  std::latch when(1);
  compile_when = &when;
  change();
  follower.follow(op);
  answer({1}, 1);
  ASSERT_TRUE(follow_until([&] { return compiling == 1; }));
  change();
  follower.follow(op);
  answer({0, 1, 2}, 3);
  ASSERT_TRUE(follow_until([&] { return placement.cpus().size() == 3; }));
  when.count_down();
  ASSERT_TRUE(follow_until([&] { return self.cores_followed == 2; }));
  EXPECT_EQ(threads(), 3);
  EXPECT_THAT(compiled, ElementsAre(1, 3));
}

TEST_F(CoresFollowerTest, AChangeBackWhileItCompilesIsFollowed) {
  std::latch when(1);
  compile_when = &when;
  change();
  follower.follow(op);
  answer({1}, 1);
  ASSERT_TRUE(follow_until([&] { return compiling == 1; }));
  change();
  follower.follow(op);
  answer({0, 1}, 2);
  ASSERT_TRUE(follow_until([&] { return placement.cpus().size() == 2; }));
  when.count_down();
  ASSERT_TRUE(follow_until([&] { return self.cores_followed == 2; }));
  EXPECT_EQ(threads(), 2);
}

TEST_F(CoresFollowerTest, WhatCannotBeCompiledLeavesTheOldPrograms) {
  for (const bool exception : {false, true}) {
    fails = true;
    throws = exception;
    change();
    const std::uint32_t version = self.cores_version;
    follower.follow(op);
    answer({1}, 1);
    ASSERT_TRUE(follow_until([&] { return self.cores_followed == version; }));
    EXPECT_EQ(threads(), 2);
    EXPECT_EQ(self.threads, 2u);
  }
  fails = throws = false;
  change();
  follower.follow(op);
  answer({1}, 1);
  ASSERT_TRUE(follow_until([&] { return self.cores_followed == 3; }));
  EXPECT_EQ(threads(), 1);
}

TEST_F(CoresFollowerTest, AnAnswerThatIsNoneChangesNothing) {
  change();
  follower.follow(op);
  send(ipc::error_reply({ErrorCode::refused, "who are you?"}));
  EXPECT_EQ(follower.follow(op), std::nullopt);
  EXPECT_THAT(placement.cpus(), ElementsAre(0, 1));
  EXPECT_EQ(self.cores_followed, 0u) << "nobody may believe that it has";
  change();
  follower.follow(op);
  answer({1}, 2);
  EXPECT_TRUE(follower.follow(op)) << "it asks again when there is something to ask for";
}

TEST_F(CoresFollowerTest, CpusThatTheKernelDoesNotGiveLeaveItWhereItIs) {
  affinity.forbidden = {7};
  change();
  follower.follow(op);
  answer({7}, 1);
  ASSERT_TRUE(follow_until([&] { return self.cores_followed == 1; }));
  EXPECT_THAT(placement.cpus(), ElementsAre(0, 1));
}

}  // namespace
}  // namespace opsplit::operators
