// `opsplit top`, on a terminal and off it.
#include <gmock/gmock.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <functional>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class Top : public SystemTest {};

TEST_F(Top, PrintsATableForEachIntervalWhereThereIsNoTerminal) {
  up({digits_model});
  Process top = start_opsplit({"top", "digits", "-n", "2", "-d", "0.2"});
  find_answers("digits", 50, folder() / "answers");
  const Outcome outcome = top.wait(20s);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("digits: ready, "));
  EXPECT_THAT(outcome.out, HasSubstr("\n\ndigits: ready, "));
  EXPECT_THAT(outcome.out, HasSubstr("\nsoftmax "));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));

  EXPECT_THAT(error_line(opsplit({"top", "other"})), HasSubstr("no deployment 'other'"));
  EXPECT_EQ(opsplit({"top", "-d", "0"}).status, 2);
  Process watched = start_opsplit({"top", "-d", "0.1"});
  EXPECT_TRUE(eventually([&] { return !watched.out().empty(); }));
  down();
  EXPECT_THAT(error_line(watched.wait(20s)), HasSubstr("opsplitd has ended"));
}

// `opsplit top` on a terminal of 80 x 10.
class Terminal {
 public:
  Terminal() {
    winsize size{10, 80, 0, 0};
    pid_ = ::forkpty(&fd_, nullptr, nullptr, &size);
    if (pid_ == 0) {
      ::execl(program("opsplit").c_str(), "opsplit", "top", "-d", "0.1", nullptr);
      ::_exit(127);
    }
    ::tcgetattr(fd_, &before_);
  }
  ~Terminal() {
    if (pid_ > 0) ::kill(pid_, SIGKILL), ::waitpid(pid_, nullptr, 0);
    ::close(fd_);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  void type(char key) const { ASSERT_EQ(::write(fd_, &key, 1), 1); }
  // Reads until it is there.
  void expect(const std::string& text) {
    while (out_.find(text) == std::string::npos && read()) continue;
    EXPECT_THAT(out_, HasSubstr(text));
  }
  // What it wrote up to its end; how it ended; whether the terminal is as it was.
  int wait() {
    while (read()) continue;
    int status = -1;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    termios after{};
    ::tcgetattr(fd_, &after);
    EXPECT_EQ(after.c_lflag & (ICANON | ECHO | ISIG), before_.c_lflag & (ICANON | ECHO | ISIG));
    return status;
  }
  [[nodiscard]] const std::string& out() const { return out_; }

 private:
  bool read() {
    std::array<char, 4096> block;
    const ssize_t count = ::read(fd_, block.data(), block.size());  // EIO: it has ended
    if (count > 0) out_.append(block.data(), static_cast<std::size_t>(count));
    return count > 0;
  }

  int fd_ = -1;
  pid_t pid_ = 0;
  termios before_{};
  std::string out_;
};

TEST_F(Top, GivesTheTerminalBackHoweverItEnds) {
  up({digits_model});
  constexpr char ctrl_c = 3;
  const std::vector<std::function<void(Terminal&)>> ends = {
      [](Terminal& terminal) { terminal.type('q'); },
      [](Terminal& terminal) { terminal.type(ctrl_c); },
      [](Terminal& terminal) { ::kill(terminal.pid(), SIGTERM); }};
  for (const auto& end : ends) {
    Terminal terminal;
    terminal.expect("softmax");
    end(terminal);
    EXPECT_EQ(terminal.wait(), 0);
    EXPECT_THAT(terminal.out(), StartsWith("\x1b[?1049h"));
    EXPECT_THAT(terminal.out(), EndsWith("\x1b[?1049l"));
    EXPECT_THAT(terminal.out(), Not(HasSubstr("in flight"))) << "80 columns have no room for it";
  }
  // An error is shown where it stays to be read.
  Terminal terminal;
  terminal.expect("softmax");
  down();
  EXPECT_EQ(WEXITSTATUS(terminal.wait()), 1);
  EXPECT_THAT(terminal.out(), HasSubstr("\x1b[?1049lopsplit: opsplitd has ended"));
}

}  // namespace
}  // namespace opsplit::test
