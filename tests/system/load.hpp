// Clients as processes of their own, and what they report.
//
// Request number n of the digits network has an input of its own, made from n. What the network
// answers to it is found out once, one request at a time; every answer that a client gets later is
// compared with it, bit by bit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/system/harness.hpp"

namespace opsplit::test {

// The role `arguments[0]`: what start_helper() starts.
int run_helper(const std::vector<std::string>& arguments);

// Asks the deployment for the answers to requests 0 to `count` - 1 and writes them to `file`. Fails
// the test if two of them are the same: a mix-up could go unnoticed.
void find_answers(const std::string& deployment, std::uint32_t count,
                  const std::filesystem::path& file);

// What one client has seen.
struct Report {
  std::uint64_t answered = 0;
  std::uint64_t wrong = 0;        // of those: another answer than the expected one
  std::uint64_t overtaken = 0;    // answered after a request that was sent later
  std::uint64_t epochs_lost = 0;  // ended in epoch_lost, and were sent again
  std::uint64_t failed = 0;       // ended in another error
  std::string error;              // the last one's
};

// A client with `in_flight` requests at a time, whose answers it takes in a random order.
class Load {
 public:
  struct Options {
    std::string deployment = "digits";
    std::filesystem::path answers;  // by find_answers()
    std::uint32_t first = 0;        // sends requests first to first + count - 1
    std::uint32_t count = 0;
    std::uint32_t in_flight = 4;
    bool repeat = false;  // from the start again, until finish()
  };
  explicit Load(const Options& options);

  // Requests answered so far.
  [[nodiscard]] std::uint64_t answered() const;
  [[nodiscard]] Process& process() { return process_; }
  // Lets it take the answers that are still out, and waits for its end.
  Report finish();

 private:
  Process process_;
  bool repeats_;
};

// The sum of what all have seen; each must have ended well.
Report finish(std::vector<Load>& loads);

// A client that has sent `count` requests and waits for no answer; started when it has.
Process hold_requests(const std::string& deployment, std::uint32_t count);

}  // namespace opsplit::test
