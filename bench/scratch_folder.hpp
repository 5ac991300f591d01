// A folder for what a benchmark keeps on a disk. A process of its own removes it when we end, however
// that is.
#pragma once

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "bench/crew.hpp"

namespace opsplit::bench {

class ScratchFolder {
 public:
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  static std::filesystem::path make() {
    std::string name = "/var/tmp/opsplit.transports.XXXXXX";
    if (::mkdtemp(name.data())) return name;
    std::perror(name.c_str());
    std::exit(1);
  }
  // Those who write into it end at the same time, but not at once.
  static int remove_at_the_end(const std::filesystem::path& folder) {
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    int which = 0;
    sigwait(&end, &which);
    std::error_code error;
    for (int tries = 0; tries < 100 && std::filesystem::exists(folder, error); ++tries) {
      std::filesystem::remove_all(folder, error);
      if (error) ::usleep(20'000);
    }
    return 0;
  }
  // Ctrl-C is for the others, and SIGTERM waits until somebody waits for it.
  struct Blocked {
    Blocked() {
      sigset_t signals;
      sigemptyset(&signals);
      sigaddset(&signals, SIGTERM);
      sigaddset(&signals, SIGINT);
      sigprocmask(SIG_BLOCK, &signals, &before);
    }
    ~Blocked() { sigprocmask(SIG_SETMASK, &before, nullptr); }
    sigset_t before;
  };

  std::filesystem::path path_ = make();
  Process remover_ = [this] {
    const Blocked blocked;
    return Process(-1, SIGTERM, [this] { return remove_at_the_end(path_); });
  }();
};

}  // namespace opsplit::bench
