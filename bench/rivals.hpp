// The ways in which containers are usually joined, as rings of two processes.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/system.hpp"
#include "bench/contender.hpp"

namespace opsplit::bench {

struct Rival {
  std::string transport, variant;
  Waiting waiting;
  std::function<Result<std::unique_ptr<Contender>>(const Setting&)> start;
};

std::vector<Rival> unix_socket_rivals();
// Folders on a tmpfs and on a disk's file system, made when they are needed.
std::vector<Rival> shared_volume_rivals(const std::filesystem::path& memory,
                                        const std::filesystem::path& disk);
std::vector<Rival> beast_rivals();
std::vector<Rival> httplib_rivals();
std::vector<Rival> grpc_rivals();
std::vector<Rival> zeromq_rivals();
// The server, which they share, starts with the first of them, and keeps its files in `folder`.
std::vector<Rival> rabbitmq_rivals(const std::filesystem::path& folder);

std::string beast_version();
std::string httplib_version();
std::string grpc_version();
std::string zeromq_version();
std::string rabbitmq_version();  // "" where rabbitmq-server is not installed

// Where members that connect meet: one of them listens, and says on which port.
class Meeting {
 public:
  void listening(int port) { port_.store(port); }
  int wait() const {
    const Deadline deadline = Clock::now() + std::chrono::seconds(10);
    while (port_.load() == 0) {
      if (Clock::now() > deadline) throw std::runtime_error("nobody listens");
      ::usleep(500);
    }
    return port_.load();
  }

 private:
  std::atomic<int> port_ = 0;
};

// Of the Unix socket that the members of a ring meet at: in the abstract namespace, so that no file
// is left. Called in members.
inline std::string abstract_address() {
  return "opsplit.transports." + std::to_string(::getppid());
}

}  // namespace opsplit::bench
