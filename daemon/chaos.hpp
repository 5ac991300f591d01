// What `opsplit chaos` does, and what it finds: a schedule of faults, and an account of what became of
// every request. Pure; not thread safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace opsplit::daemon {

enum class Victim { operators, daemon, broker, client };
inline constexpr std::array all_victims = {Victim::operators, Victim::daemon, Victim::broker,
                                           Victim::client};
std::string_view to_string(Victim victim);
Result<Victim> parse_victim(std::string_view name);

struct Fault {
  std::chrono::nanoseconds at;  // after the beginning
  Victim victim;
  bool hangs;          // stopped (SIGSTOP), else killed (SIGKILL)
  std::uint64_t pick;  // which one, of those that there are then
};

// Faults in the time that is given, at random intervals of `every` in the mean; the same for the same
// arguments on every machine. Clients are never stopped: nobody is to kill one that hangs.
std::vector<Fault> chaos_schedule(std::span<const Victim> victims, bool hang, std::uint64_t seed,
                                  std::chrono::nanoseconds time, std::chrono::nanoseconds every);

// What a client tells of a request; written to a pipe as it is.
struct RequestEvent {
  enum class Kind : std::uint32_t {
    sent,
    answered,    // with the right bytes
    wrong,       // with others
    refused,     // its operator died twice over it, or too often
    epoch_lost,  // and not to be sent again
    lost         // no answer in time, or another error
  };
  Kind kind;
  std::uint32_t client;  // number of its process
  std::uint64_t request;
  std::uint64_t sent_ns;  // CLOCK_MONOTONIC
  std::uint64_t at_ns;    // of this event
};

class ChaosAccount {
 public:
  struct Count {
    std::uint64_t requests = 0, answered = 0, refused = 0, epochs_lost = 0;
    std::uint64_t died_with_client = 0;
    std::uint64_t lost = 0, doubled = 0, wrong = 0;
  };

  void add(const RequestEvent& event);
  // Silence counts from now on: the clients have started.
  void begin();
  // No event of this process follows: it was killed, or had no more to do.
  void client_died(std::uint32_t client);
  // It ended by itself: its requests are lost, or one that it would have sent.
  void client_failed(std::uint32_t client);
  void fault_struck(Victim victim, std::uint64_t at_ns);
  // No event follows at all: what has no outcome is lost.
  void close();

  [[nodiscard]] const Count& count() const { return count_; }
  // Milliseconds from each fault to the first answer to a request that was sent after it.
  [[nodiscard]] const std::map<Victim, std::vector<double>>& recoveries() const {
    return recoveries_;
  }
  // Faults after which there was no such answer.
  [[nodiscard]] std::uint64_t unrecovered() const { return pending_.size(); }
  // Between two answers since begin().
  [[nodiscard]] double longest_silence_ms() const;
  // Milliseconds from sending to answer, each answered request in one of them.
  struct Latencies {
    std::vector<double> before;  // answered before the first fault
    std::map<Victim, std::vector<double>>
        under_way;  // when a fault struck; the first one, of several
    std::vector<double> others;
  };
  [[nodiscard]] const Latencies& latencies() const { return latencies_; }

 private:
  Count count_;
  std::set<std::pair<std::uint32_t, std::uint64_t>> under_way_;  // client, request
  std::deque<std::pair<Victim, std::uint64_t>> pending_;
  std::map<Victim, std::vector<double>> recoveries_;
  std::map<std::uint64_t, Victim> faults_;  // by the time when they struck
  Latencies latencies_;
  std::uint64_t last_answer_ns_ = 0;
  std::uint64_t longest_silence_ns_ = 0;
};

}  // namespace opsplit::daemon
