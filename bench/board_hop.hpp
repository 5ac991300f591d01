// The hop that opsplit is about: operators as operators/host.cpp runs them, less the kernel, with a
// real board and a real arena. A request is a chain of tasks that goes round all operators.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "bench/contender.hpp"
#include "bench/crew.hpp"
#include "ipc/session.hpp"

namespace opsplit::bench {

inline constexpr std::string_view board_deployment = "hop";
inline constexpr std::uint64_t board_epoch = 1;

// What its arena takes; the broker has published one at least as large for `board_deployment`.
std::uint64_t board_arena_bytes(const Setting& setting);

class BoardHop final : public Contender {
 public:
  // `measure`: the operators take the time of each task.
  static Result<std::unique_ptr<Contender>> start(const Setting& setting, Waiting waiting,
                                                  bool measure);
  ~BoardHop() override;

  Result<double> run() override;
  [[nodiscard]] std::uint64_t bytes_copied() const override;

  // Board and plan, left by a run that was killed.
  static void remove_files();

 private:
  BoardHop(const Setting& setting, Plan plan, ipc::Board board);
  Result<> start_operators(Waiting waiting, bool measure);
  void register_participant(ipc::LaunchNumber launch, pid_t pid);

  Setting setting_;
  Plan plan_;
  ipc::Board board_;
  ipc::Handover handover_;
  ipc::Places places_;
  ipc::LaunchNumber client_;
  std::unique_ptr<Crew> crew_;
};

}  // namespace opsplit::bench
