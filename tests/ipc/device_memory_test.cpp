#include "ipc/device_memory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <optional>

#include "ipc/message_server.hpp"
#include "tests/ipc/device_parties.hpp"
#include "tests/ipc/other_process.hpp"

namespace opsplit::ipc {
namespace {

using test::ArenaAddress;
using test::FakeBroker;
using test::FakeDevice;
using test::FakeGpu;
using test::in_seconds;
using testing::HasSubstr;

struct DeviceMemoryTest : testing::Test {
  DeviceMemoryTest() { address.socket = folder.socket(); }
  // A broker of which we have the socket in hand: it answers what the test says.
  Result<DeviceArena> attach_to(const nlohmann::json& reply) {
    test::Forked liar([&] {
      auto listener = MessageListener::bind(address.socket);
      const auto lock = hold_owner_lock(owner_lock_path(address.socket));
      if (!listener || !lock) return 1;
      while (true) {
        auto accepted = listener->accept();
        if (!accepted || !*accepted) {
          ::sched_yield();
          continue;
        }
        if ((*accepted)->receive(in_seconds(20)))
          static_cast<void>((*accepted)->send(reply, in_seconds(20)));
      }
    });
    while (true) {
      auto attached = address.attach(device);
      if (attached || attached.error().code != ErrorCode::unavailable) return attached;
      ::sched_yield();  // it does not listen yet
    }
  }

  FakeGpu gpu;
  test::SocketFolder folder;
  ArenaAddress address;
  FakeDevice device{gpu, test::a_client};
};

TEST(DeviceArenaShape, OfImpossibleSizesIsRefused) {
  EXPECT_EQ(arena_bytes({128, 3}).value(), 384u);
  EXPECT_FALSE(arena_bytes({0, 3}));
  EXPECT_FALSE(arena_bytes({128, 0}));
  EXPECT_FALSE(arena_bytes({100, 1}));
  EXPECT_FALSE(arena_bytes({std::uint64_t{1} << 62, 4}));
}

TEST_F(DeviceMemoryTest, SlotsLieBehindEachOther) {
  const FakeBroker broker(gpu, test::a_broker, address);
  const auto arena = address.attach(device);
  ASSERT_TRUE(arena) << arena.error().message;
  EXPECT_EQ(arena->slot(1) - arena->slot(0), address.shape.slot_bytes);
  EXPECT_TRUE(arena->check());
}

TEST_F(DeviceMemoryTest, AnArenaThatWasMovedIsClosedOnce) {
  FakeBroker broker(gpu, test::a_broker, address);
  {
    auto first = address.attach(device);
    ASSERT_TRUE(first);
    DeviceArena second(std::move(*first));
    FakeDevice other_device(gpu, test::another);
    auto third = address.attach(other_device);
    ASSERT_TRUE(third);
    *third = std::move(second);
    EXPECT_EQ(gpu.opened_by(test::another), 0u);
    EXPECT_EQ(gpu.opened_by(test::a_client), 1u);
  }
  EXPECT_EQ(gpu.opened_by(test::a_client), 0u);
  broker.end();
  EXPECT_EQ(broker.wait(), 0);
  EXPECT_EQ(gpu.misuse(), "");
}

TEST_F(DeviceMemoryTest, WithoutABrokerItSaysWhere) {
  const auto arena = address.attach(device);
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, ErrorCode::unavailable);
  EXPECT_THAT(arena.error().message, HasSubstr(address.socket.native()));
}

TEST_F(DeviceMemoryTest, AnotherArenaThanThePlansIsRefused) {
  const FakeBroker broker(gpu, test::a_broker, address);
  const auto code_of = [&](const ArenaId& id, const DeviceArenaShape& shape) {
    const ArenaAddress other{address.socket, id, shape};
    const auto arena = other.attach(device);
    return arena ? ErrorCode::system : arena.error().code;
  };
  EXPECT_EQ(code_of({"digits", 2}, address.shape), ErrorCode::refused);
  EXPECT_EQ(code_of({"other", 1}, address.shape), ErrorCode::refused);
  EXPECT_EQ(code_of(address.id, {address.shape.slot_bytes + 64, 2}), ErrorCode::refused);
  EXPECT_EQ(code_of(address.id, {address.shape.slot_bytes, 3}), ErrorCode::refused);
  EXPECT_EQ(code_of(address.id, {100, 2}), ErrorCode::invalid_input);
  EXPECT_EQ(gpu.opened_by(test::a_client), 0u);
}

TEST_F(DeviceMemoryTest, AHostileReplyIsRefused) {
  const std::string device_name = to_string(device.uuid());
  const std::string nothing(128, '0');
  for (const nlohmann::json& reply :
       {nlohmann::json(7), nlohmann::json{{"ok", true}},
        nlohmann::json{{"device", 1}, {"handle", nothing}},
        nlohmann::json{{"device", std::string(9000, 'x')}, {"handle", nothing}},
        nlohmann::json{{"device", device_name}},
        nlohmann::json{{"device", device_name}, {"handle", nullptr}},
        nlohmann::json{{"device", device_name}, {"handle", "00"}},
        nlohmann::json{{"device", device_name}, {"handle", nothing}}}) {
    const auto arena = attach_to(reply);
    ASSERT_FALSE(arena) << reply;
    EXPECT_LT(arena.error().message.size(), 400u);
  }
  EXPECT_EQ(gpu.opened_by(test::a_client), 0u);
}

TEST_F(DeviceMemoryTest, AnArenaOnAnotherDeviceIsRefused) {
  const auto arena = attach_to(
      {{"device", "GPU-00112233-4455-6677-8899-aabbccddeeff"}, {"handle", std::string(128, '1')}});
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, ErrorCode::refused);
  EXPECT_THAT(arena.error().message, HasSubstr("GPU-00112233"));
}

// It has been granted, could not open, and lives on: nobody must wait for its end.
TEST_F(DeviceMemoryTest, AnAttachThatFailsHoldsUpNobody) {
  FakeBroker broker(gpu, test::a_broker, address);
  device.fault_next_launch();
  const auto stream = device.create_stream(StreamPriority::normal);
  const auto memory = device.allocate(64);
  ASSERT_TRUE(stream && memory && device.launch({{}, *memory, 4, 0}, *stream));
  device.finish();  // every call fails from now on
  EXPECT_FALSE(address.attach(device));
  broker.end();
  EXPECT_EQ(broker.wait(), 0);
}

TEST_F(DeviceMemoryTest, CheckFailsOnceTheBrokerHasEnded) {
  FakeBroker broker(gpu, test::a_broker, address);
  const auto arena = address.attach(device);
  ASSERT_TRUE(arena && arena->check());
  FakeBroker::kill(broker.pid());
  EXPECT_EQ(arena->check().error().code, ErrorCode::epoch_lost);
  const FakeBroker next(gpu, test::a_third, address);
  EXPECT_TRUE(next.ready());
  EXPECT_EQ(arena->check().error().code, ErrorCode::epoch_lost);
}

TEST_F(DeviceMemoryTest, TheSelfTestReadsWhatItWrote) {
  FakeBroker broker(gpu, test::a_broker, address);
  const auto tried =
      try_device_arena(device, address.socket, address.id, address.shape, in_seconds(20));
  EXPECT_TRUE(tried) << tried.error().message;
  broker.end();
  EXPECT_EQ(broker.wait(), 0);
  EXPECT_EQ(gpu.allocations(), 0u);
  EXPECT_EQ(gpu.misuse(), "");
}

TEST_F(DeviceMemoryTest, TheSelfTestFailsWhereItIsNotDoneInTime) {
  const FakeBroker broker(gpu, test::a_broker, address);
  gpu.set_queries_until_done(test::never);
  const auto tried =
      try_device_arena(device, address.socket, address.id, address.shape, in_seconds(0.2));
  ASSERT_FALSE(tried);
  EXPECT_EQ(tried.error().code, ErrorCode::timed_out);
}

TEST_F(DeviceMemoryTest, ReadingTriesItAndChangesNothing) {
  const FakeBroker broker(gpu, test::a_broker, address);
  const auto arena = address.attach(device);
  ASSERT_TRUE(arena) << arena.error().message;
  const auto stream = device.create_stream(StreamPriority::normal);
  ASSERT_TRUE(stream && device.launch({{}, arena->slot(0), 4, 7.0F}, *stream));
  device.finish();
  EXPECT_TRUE(arena->try_reading(in_seconds(20)));
  float first = 0;
  ASSERT_TRUE(
      device.copy_to_host(std::as_writable_bytes(std::span(&first, 1)), arena->slot(0), *stream));
  device.finish();
  EXPECT_EQ(first, 7.0F);
  EXPECT_EQ(gpu.misuse(), "");
}

TEST_F(DeviceMemoryTest, ReadingFailsInTimeAndOnceTheBrokerIsDead) {
  const FakeBroker broker(gpu, test::a_broker, address);
  const auto arena = address.attach(device);
  ASSERT_TRUE(arena) << arena.error().message;
  FakeBroker::kill(broker.pid());
  EXPECT_FALSE(arena->try_reading(in_seconds(20)));
  gpu.set_queries_until_done(test::never);
  EXPECT_EQ(arena->try_reading(in_seconds(0.2)).error().code, ErrorCode::timed_out);
}

// The tests count on it.
TEST_F(DeviceMemoryTest, TheFakeNoticesMisuse) {
  const auto expect = [](const char* what, const auto& result) { EXPECT_FALSE(result) << what; };
  FakeDevice owner(gpu, test::a_broker);
  const auto memory = owner.allocate(64);
  const auto handle = owner.export_handle(*memory);
  const auto opened = device.open_handle(*handle);
  ASSERT_TRUE(opened);
  const auto stream = device.create_stream(StreamPriority::normal);
  const auto event = owner.create_event();
  expect("freed while open", owner.free(*memory));
  EXPECT_EQ(gpu.misuse(), "process 1: free() while process 0 has it open");
  expect("opened twice", device.open_handle(*handle));
  expect("opened by its exporter", owner.open_handle(*handle));
  expect("another process's address", device.launch({{}, *memory, 4, 0}, *stream));
  expect("beyond the end", device.launch({{}, *opened, 17, 0}, *stream));
  expect("a foreign event", device.query(*event));
  expect("a foreign stream", owner.record(*event, *stream));
  ASSERT_TRUE(device.launch({{}, *opened, 4, 0}, *stream));
  expect("closed while work is pending", device.close_handle(*opened));
  device.finish();
  EXPECT_TRUE(device.close_handle(*opened));
  expect("used after it was closed", device.launch({{}, *opened, 4, 0}, *stream));
  expect("closed twice", device.close_handle(*opened));
  EXPECT_TRUE(owner.free(*memory));
  expect("freed twice", owner.free(*memory));
}

}  // namespace
}  // namespace opsplit::ipc
