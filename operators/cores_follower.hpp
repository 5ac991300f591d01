// Follows opsplitd's word on which cores this process runs on, while it serves requests.
//
//   idle --cores_version has changed--> asked --answer--> idle, or compiling --done--> idle
//                                         |
//                     asked again  <------+ opsplitd has died: of the next one
//
// Affinity and spinning follow with the answer. The programs are made for a number of threads: if
// that changes, they are compiled again on a thread of their own while the old ones go on serving, and
// take their place between two tasks. Nothing waits for anything here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.hpp"
#include "ipc/board.hpp"
#include "ipc/message_socket.hpp"
#include "ipc/session.hpp"
#include "operators/operator.hpp"
#include "operators/thread_placement.hpp"

namespace opsplit::operators {

// To be used from the main thread, between two tasks.
class CoresFollower {
 public:
  // Called on a thread of its own, which may not outlive this object; never two at a time. What it makes is not
  // told of the arena. None: the operator is the same whatever the number of threads.
  using Compile = std::function<Result<std::unique_ptr<Operator>>(int threads)>;

  // Whom to ask: over this connection, replaced by one to the next opsplitd if need be. The reply is
  // an AssignedCores.
  struct Opsplitd {
    ipc::MessageSocket& connection;
    std::filesystem::path socket;
    nlohmann::json question;
  };

  // What it refers to outlives it. `cores` are those that the process attached with.
  CoresFollower(ipc::Participant& self, Opsplitd opsplitd, const ipc::AssignedCores& cores,
                ThreadPlacement& placement, Compile compile);

  // Takes the next step, if there is one; puts programs for another number of threads into `op`. How
  // the process may wait from now on, if that has changed.
  std::optional<ipc::WorkerOptions> follow(std::unique_ptr<Operator>& op);

 private:
  void ask(std::uint32_t version);
  std::optional<ipc::WorkerOptions> take_answer();
  void compile();
  void take_compiled(std::unique_ptr<Operator>& op);
  void report();

  ipc::Participant& self_;
  Opsplitd opsplitd_;
  ThreadPlacement& placement_;
  Compile compile_;
  std::uint32_t version_ = 0;                                // that was asked for last
  bool asked_ = false;                                       // and not answered yet
  Deadline ask_again_{};                                     // not before
  std::uint32_t answered_ = 0;                               // that was answered well last
  int threads_;                                              // of the programs that run
  int wanted_;                                               // threads, as assigned
  int compiling_threads_ = 0;                                // of those that are compiled just now
  std::future<Result<std::unique_ptr<Operator>>> compiled_;  // last: waits for its thread
};

}  // namespace opsplit::operators
