#include "daemon/progress.hpp"

#include <algorithm>
#include <utility>

namespace opsplit::daemon {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t tasks_to_measure = 100;
constexpr std::uint64_t patience_in_p99 = 20;
constexpr std::uint64_t patience_at_least_ns = second_ns;
constexpr std::uint64_t patience_unmeasured_ns = 30 * second_ns;
constexpr std::uint64_t longest_between_looks_ns = second_ns / 5;
constexpr std::uint64_t longest_task_ns = 86'400 * second_ns;  // whatever the board says

std::map<ipc::LaunchNumber, ipc::Claim> claims_of(const ipc::Board& board) {
  std::map<ipc::LaunchNumber, ipc::Claim> claims;
  for (std::uint32_t slot = 0; slot < board.layout().depth; ++slot) {
    const auto state = ipc::SlotWord::unpack(board.slot(slot).word.load()).state;
    if (state != ipc::SlotState::running && state != ipc::SlotState::closing) continue;
    for (std::uint32_t task = 0; task < board.layout().tasks; ++task) {
      const auto word = ipc::TaskWord::unpack(board.task(slot, task).word.load());
      if (word.state == ipc::TaskState::claimed)
        claims[word.holder] = {slot, task, word.generation, word.attempts};
    }
  }
  return claims;
}

}  // namespace

std::map<ipc::LaunchNumber, std::uint64_t> Progress::look(
    const ipc::Handover& handover, std::span<const Worker> workers, std::uint64_t now_ns,
    const std::function<CpuTime(ipc::LaunchNumber)>& cpu_time) {
  const auto claims = claims_of(handover.board());
  const std::uint64_t passed_ns =
      std::min(now_ns - std::exchange(looked_ns_, now_ns), longest_between_looks_ns);
  std::map<ipc::LaunchNumber, At> at;
  std::map<ipc::LaunchNumber, std::uint64_t> spent;
  for (const auto& [launch, op] : workers) {
    const auto found = claims.find(launch);
    const auto claim = found == claims.end() ? std::nullopt : std::optional(found->second);
    if (!claim && !handover.has_runnable(op)) continue;
    // There may be work at each look, and it a different one each time.
    const std::uint64_t tasks_done = handover.board().participant(launch).tasks_done.load();
    const auto before = at_.find(launch);
    if (before == at_.end() || before->second.claim != claim ||
        before->second.tasks_done != tasks_done) {
      at[launch] = {claim, tasks_done, 0, std::nullopt};
      continue;
    }
    At& still = at[launch] = before->second;
    const CpuTime time = cpu_time(launch);
    still.spent_ns +=
        usable_ns(passed_ns, std::exchange(still.cpu_time, time).value_or(time), time);
    spent[launch] = still.spent_ns;
  }
  at_ = std::move(at);
  return spent;
}

std::uint64_t patience_ns(const OperatorSettings& settings, const ipc::Histogram& tasks) {
  if (settings.hung_after)
    return static_cast<std::uint64_t>(settings.hung_after->count()) * second_ns;
  if (tasks.count() < tasks_to_measure) return patience_unmeasured_ns;
  const std::uint64_t p99_ns = std::min(*tasks.quantile_ns(0.99), longest_task_ns);
  return std::max(patience_at_least_ns, patience_in_p99 * p99_ns);
}

}  // namespace opsplit::daemon
