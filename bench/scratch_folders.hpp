// Folders for what `hop` and `transports` keep in files, on a disk and in memory. A process of its own
// removes them when we end, however that is, and what lies beside them.
#pragma once

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "bench/board_hop.hpp"
#include "bench/crew.hpp"

namespace opsplit::bench {

class ScratchFolders {
 public:
  [[nodiscard]] const std::filesystem::path& disk() const { return disk_; }
  // Made by whoever needs it.
  [[nodiscard]] const std::filesystem::path& memory() const { return memory_; }

 private:
  static std::filesystem::path make() {
    std::string name = "/var/tmp/opsplit.bench.XXXXXX";
    if (::mkdtemp(name.data())) return name;
    std::perror(name.c_str());
    std::exit(1);
  }
  // Those who write into it end at the same time, but not at once.
  [[nodiscard]] int remove_at_the_end() const {
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    int which = 0;
    sigwait(&end, &which);
    for (const auto& folder : {disk_, memory_})
      for (int tries = 0; tries < 100; ++tries) {
        std::error_code error;
        std::filesystem::remove_all(folder, error);
        if (!error && !std::filesystem::exists(folder)) break;
        ::usleep(20'000);
      }
    BoardHop::remove_files();
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

  std::filesystem::path disk_ = make();
  std::filesystem::path memory_ = "/dev/shm/" + disk_.filename().string();
  Process remover_ = [this] {
    const Blocked blocked;
    return Process(-1, SIGTERM, [this] { return remove_at_the_end(); });
  }();
};

}  // namespace opsplit::bench
