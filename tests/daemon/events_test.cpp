#include "daemon/events.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;

class Pipe {
 public:
  Pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw std::runtime_error("pipe");
    read_end_ = FileDescriptor(ends[0]);
    write_end_ = FileDescriptor(ends[1]);
  }
  [[nodiscard]] int fd() const { return read_end_.get(); }
  void fill() { EXPECT_EQ(write(write_end_.get(), "x", 1), 1); }
  void drain() {
    char byte = 0;
    EXPECT_EQ(read(read_end_.get(), &byte, 1), 1);
  }

 private:
  FileDescriptor read_end_;
  FileDescriptor write_end_;
};

TEST(Watch, CallsBackEachTimeUntilItIsReset) {
  boost::asio::io_context io;
  Pipe pipe;
  int calls = 0;
  Watch watch(io, pipe.fd(), Watch::readable, [&] {
    pipe.drain();
    if (++calls == 3) watch.reset();
  });
  for (int i = 0; i < 4; ++i) pipe.fill();
  io.run();
  EXPECT_EQ(calls, 3);
}

// Two descriptors are ready at once; the first callback closes the second watch, whose event is
// already on its way, and opens another, which asio gives the closed one's place.
TEST(Watch, IsNotCalledForTheEventOfAnotherThatWasClosed) {
  boost::asio::io_context io;
  Pipe ready, silent;
  ready.fill();
  std::array<Watch, 2> watches;
  Watch late;
  int calls = 0;
  for (std::size_t i = 0; i < 2; ++i)
    watches[i] = Watch(io, ready.fd(), Watch::readable, [&] {
      for (Watch& watch : watches) watch.reset();
      late = Watch(io, silent.fd(), Watch::readable, [&calls] { ++calls; });
    });
  io.poll();
  EXPECT_EQ(calls, 0);
  silent.fill();
  io.restart();
  io.run_one_for(5s);
  EXPECT_GT(calls, 0);
}

TEST(Timer, CallsBackOnceAndNotWhenItWasCancelled) {
  boost::asio::io_context io;
  Timer timer(io), cancelled(io);
  int calls = 0;
  timer.at(Clock::now(), [&] { ++calls; });
  cancelled.at(Clock::now(), [] { FAIL(); });
  cancelled.cancel();
  io.run();
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace opsplit::daemon
