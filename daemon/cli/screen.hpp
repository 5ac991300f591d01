// The whole terminal, as long as this object lives: the alternate screen without a cursor, keys as they
// are typed. However the scope is left, the terminal is as it was before.
#pragma once

#include <termios.h>

#include <cstddef>
#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::daemon::cli {

// One per process, which must have one thread: signals that would end the process without a word
// (SIGINT, SIGTERM, SIGHUP, SIGQUIT) are blocked, and end wait() instead.
class Screen {
 public:
  static Result<Screen> open();
  Screen(Screen&& other) noexcept;
  Screen& operator=(Screen&&) = delete;
  ~Screen();

  struct Size {
    std::size_t columns = 80, lines = 24;
  };
  [[nodiscard]] Size size() const;
  // Replaces what is shown; cuts nothing off.
  Result<> show(std::string_view text);

  enum class Event { timeout, resized, quit };  // quit: q, Ctrl-C, a signal
  Event wait(Deadline deadline);

 private:
  explicit Screen(FileDescriptor signals) : signals_(std::move(signals)) {}
  [[nodiscard]] Event event_of_signal() const;
  Event event_of_keys();

  FileDescriptor signals_;         // -1: moved from
  std::optional<termios> before_;  // of standard input, if that is a terminal
};

}  // namespace opsplit::daemon::cli
