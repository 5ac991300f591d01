#include "ipc/device_broker.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/ipc/device_parties.hpp"
#include "tests/ipc/other_process.hpp"

namespace opsplit::ipc {
namespace {

using test::ArenaAddress;
using test::Child;
using test::FakeBroker;
using test::FakeDevice;
using test::FakeGpu;
using test::Forked;
using test::in_seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct DeviceBrokerTest : testing::Test {
  DeviceBrokerTest() { address.socket = folder.socket(); }
  MessageSocket connect() { return MessageSocket::connect(address.socket, in_seconds(20)).value(); }
  Result<nlohmann::json> ask(const nlohmann::json& request) {
    return connect().call(request, in_seconds(20));
  }
  [[nodiscard]] nlohmann::json open_request() const {
    return {{"op", "open"},
            {"deployment", address.id.deployment},
            {"epoch", address.id.epoch},
            {"slot_bytes", address.shape.slot_bytes},
            {"depth", address.shape.depth}};
  }

  FakeGpu gpu;
  test::SocketFolder folder;
  ArenaAddress address;
};

TEST_F(DeviceBrokerTest, SaysWhatItHasAndForWhom) {
  const FakeBroker broker(gpu, test::a_broker, address);
  ASSERT_TRUE(broker.ready());
  auto connection = connect();
  ASSERT_TRUE(connection.call(open_request(), in_seconds(20)));
  const auto reply = ask({{"op", "ping"}});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ((*reply)["pid"], broker.pid());
  EXPECT_EQ((*reply)["version"], OPSPLIT_VERSION);
  EXPECT_EQ((*reply)["deployment"], "digits");
  EXPECT_EQ((*reply)["epoch"], 1);
  EXPECT_EQ((*reply)["slot_bytes"], 256);
  EXPECT_EQ((*reply)["depth"], 2);
  EXPECT_EQ((*reply)["draining"], false);
  EXPECT_EQ((*reply)["parties"], nlohmann::json::array({::getpid()}));
}

TEST_F(DeviceBrokerTest, EndsAtOnceIfNobodyHasTheArenaOpen) {
  FakeBroker broker(gpu, test::a_broker, address);
  const auto idle = connect();
  broker.end();
  EXPECT_EQ(broker.wait(), 0);
  EXPECT_THAT(folder.files(), IsEmpty());
  EXPECT_EQ(gpu.allocations(), 0u);
}

// A party that hangs up without its word may still have the arena open. It is known that it has not when
// it is dead.
TEST_F(DeviceBrokerTest, WaitsForWhoHungUpWithoutAWord) {
  FakeBroker broker(gpu, test::a_broker, address);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Forked party([&] {
    {
      auto connection = connect();
      if (!connection.call(open_request(), in_seconds(20))) return 1;
    }
    if (::write(ends[1], "r", 1) != 1) return 2;
    while (true) ::pause();
  });
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  const pid_t pid = party.pid();
  broker.end();
  // It answers until it ends.
  for (int i = 0; i < 3; ++i) {
    const auto reply = ask({{"op", "ping"}});
    ASSERT_TRUE(reply);
    EXPECT_EQ((*reply)["parties"], nlohmann::json::array({pid}));
    EXPECT_EQ(gpu.allocations(), 1u);
  }
  party.signal(SIGKILL);
  EXPECT_EQ(broker.wait(), 0);
  EXPECT_EQ(gpu.allocations(), 0u);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(DeviceBrokerTest, GrantsNothingWhileItWaitsForItsEnd) {
  FakeBroker broker(gpu, test::a_broker, address);
  auto party = connect();
  ASSERT_TRUE(party.call(open_request(), in_seconds(20)));
  broker.end();
  ASSERT_TRUE(test::eventually([this] { return (*ask({{"op", "ping"}}))["draining"] == true; }));
  const auto late = ask(open_request());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::unavailable);
  EXPECT_TRUE(party.send({{"op", "closed"}}, in_seconds(20)));
  EXPECT_EQ(broker.wait(), 0);
}

TEST_F(DeviceBrokerTest, ASecondGrantOnAConnectionIsRefused) {
  const FakeBroker broker(gpu, test::a_broker, address);
  auto party = connect();
  ASSERT_TRUE(party.call(open_request(), in_seconds(20)));
  EXPECT_EQ(party.call(open_request(), in_seconds(20)).error().code, ErrorCode::already_exists);
  // After it has closed, it may.
  EXPECT_TRUE(party.call({{"op", "closed"}}, in_seconds(20)));
  EXPECT_TRUE(party.call(open_request(), in_seconds(20)));
}

TEST_F(DeviceBrokerTest, BadRequestsAreRefusedAndItGoesOn) {
  const FakeBroker broker(gpu, test::a_broker, address);
  const auto with = [this](const char* key, const nlohmann::json& value) {
    auto request = open_request();
    request[key] = value;
    return request;
  };
  for (const nlohmann::json& request :
       {nlohmann::json(), nlohmann::json(7), nlohmann::json::array({1}), nlohmann::json::object(),
        nlohmann::json{{"op", "fly"}}, nlohmann::json{{"op", "open"}}, with("epoch", "x"),
        with("epoch", -1), with("deployment", 1), with("depth", 1.5),
        with("slot_bytes", nullptr)}) {
    const auto reply = ask(request);
    ASSERT_FALSE(reply) << request;
    EXPECT_EQ(reply.error().code, ErrorCode::invalid_input) << request;
  }
  const auto other = ask(with("deployment", std::string(100'000, 'a')));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::refused);
  EXPECT_LT(other.error().message.size(), 400u);
  EXPECT_TRUE(ask(with("depth", ~std::uint64_t{0})).error().code == ErrorCode::refused);
  EXPECT_EQ((*ask({{"op", "ping"}}))["parties"], nlohmann::json::array());
}

TEST_F(DeviceBrokerTest, ASecondBrokerAtThisPlaceIsRefused) {
  const FakeBroker broker(gpu, test::a_broker, address);
  FakeBroker second(gpu, test::a_third, address);
  EXPECT_FALSE(second.ready());
  EXPECT_EQ(second.wait(), 1);
  FakeDevice device(gpu, test::a_client);
  const auto arena = address.attach(device);
  ASSERT_TRUE(arena) << arena.error().message;
  EXPECT_TRUE(arena->check());
}

TEST_F(DeviceBrokerTest, TooLargeAnArenaIsRefused) {
  address.shape = {1 << 20, 64};
  FakeBroker broker(gpu, test::a_broker, address);
  EXPECT_FALSE(broker.ready());
  EXPECT_EQ(broker.wait(), 1);
  EXPECT_THAT(folder.files(), IsEmpty());
}

TEST(DeviceBrokerProgram, StartsWithoutADriverAndSaysWhatIsMissing) {
  EXPECT_EQ(Child({OPSPLIT_BIN_DIR "/opsplit-device-broker", "--help"}).wait(), 0);
  EXPECT_NE(Child({OPSPLIT_BIN_DIR "/opsplit-device-broker", "--depth", "1"}).wait(), 0);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Child broker({OPSPLIT_BIN_DIR "/opsplit-device-broker", "--socket", "/tmp/x/y", "--device",
                "GPU-00112233-4455-6677-8899-aabbccddeeff", "--deployment", "digits", "--epoch",
                "1", "--slot-bytes", "1MiB", "--depth", "2"},
               ends[1]);
  ::close(ends[1]);
  std::string said(4096, '\0');
  const ssize_t count = ::read(ends[0], said.data(), said.size());
  EXPECT_EQ(broker.wait(), 1);
  said.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  ::close(ends[0]);
  EXPECT_THAT(said, testing::AnyOf(HasSubstr("no NVIDIA driver"), HasSubstr("without CUDA"),
                                   HasSubstr("no GPU")));
}

}  // namespace
}  // namespace opsplit::ipc
