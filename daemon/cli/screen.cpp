#include "daemon/cli/screen.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

namespace opsplit::daemon::cli {
namespace {

constexpr std::string_view enter = "\x1b[?1049h\x1b[?25l";
constexpr std::string_view leave = "\x1b[?25h\x1b[?1049l";

Result<> write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail_errno(errno, "standard output");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<Screen> Screen::open() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) sigaddset(&signals, number);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  Screen screen(FileDescriptor(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)));
  if (!screen.signals_) return fail_errno(errno, "signalfd");
  if (termios state{}; ::tcgetattr(STDIN_FILENO, &state) == 0) {
    screen.before_ = state;
    state.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &state);
  }
  OPSPLIT_CHECK(write_all(enter));
  return screen;
}

Screen::Screen(Screen&& other) noexcept
    : signals_(std::move(other.signals_)), before_(std::exchange(other.before_, std::nullopt)) {}

Screen::~Screen() {
  if (!signals_) return;
  (void)write_all(leave);
  if (before_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
}

Screen::Size Screen::size() const {
  winsize found{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_col == 0 || found.ws_row == 0)
    return {};
  return {found.ws_col, found.ws_row};
}

// Over what is there, line by line, so that nothing flickers. A line is cleared first: behind one that
// is as wide as the screen, its last character would go.
Result<> Screen::show(std::string_view text) {
  std::string frame = "\x1b[H";
  bool first = true;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    if (!std::exchange(first, false)) frame += "\r\n";
    frame.append("\x1b[K").append(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return write_all(frame + "\x1b[J");
}

Screen::Event Screen::wait(Deadline deadline) {
  while (true) {
    // A negative descriptor is left alone.
    std::array<pollfd, 2> waits = {pollfd{before_ ? STDIN_FILENO : -1, POLLIN, 0},
                                   pollfd{signals_.get(), POLLIN, 0}};
    const int ready = ::poll(waits.data(), waits.size(), poll_timeout(deadline));
    if (ready == 0) return Event::timeout;
    if (ready < 0) continue;  // EINTR: of no signal that is ours
    Event event = Event::timeout;
    if (waits[1].revents != 0) event = event_of_signal();
    if (waits[0].revents != 0 && event != Event::quit) {
      const Event key = event_of_keys();
      if (key != Event::timeout) event = key;
    }
    if (event != Event::timeout) return event;
  }
}

Screen::Event Screen::event_of_signal() const {
  Event event = Event::timeout;
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGWINCH) return Event::quit;
    event = Event::resized;
  }
  return event;
}

Screen::Event Screen::event_of_keys() {
  std::array<char, 64> keys;
  const ssize_t count = ::read(STDIN_FILENO, keys.data(), keys.size());
  if (count <= 0) return Event::quit;  // the terminal is gone
  const std::string_view typed(keys.data(), static_cast<std::size_t>(count));
  return typed.find_first_of("qQ\x03\x04") == std::string_view::npos  // Ctrl-C, Ctrl-D
             ? Event::timeout
             : Event::quit;
}

}  // namespace opsplit::daemon::cli
