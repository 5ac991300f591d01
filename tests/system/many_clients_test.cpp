// Many clients at once: each answer right and its own, memory flat, and a client that dies gives back
// what it held.
#include <fmt/format.h>

#include <csignal>
#include <map>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

class ManyClients : public SystemTest {
 protected:
  // Two processes run the convolutions, so that a request can overtake another one.
  [[nodiscard]] std::string deployment_file(int depth) const {
    const auto file = folder() / "digits.yaml";
    write_file(file, fmt::format("name: digits\nmodel: {}\nsplit: by-type\ndepth: {}\n"
                                 "operators:\n  conv: {{instances: 2}}\n",
                                 digits_model, depth));
    return file;
  }
};

struct Memory {
  std::uint64_t shared = shared_bytes();
  std::map<pid_t, std::uint64_t> of_process;
  Memory() {
    for (const pid_t pid : our_processes()) of_process[pid] = private_bytes(pid);
  }
};

std::map<std::string, std::uint64_t> tasks_done() {
  std::map<std::string, std::uint64_t> done;
  const json digits = deployment("digits");
  for (const json& entry : digits["instances"])
    done[entry["operator"]] += entry["tasks_done"].get<std::uint64_t>();
  return done;
}

TEST_F(ManyClients, EachOf10000AnswersIsRightAndItsOwn) {
  constexpr std::uint32_t clients = 4, requests_each = 2500, all = clients * requests_each;
  up({deployment_file(16)});
  const auto answers = folder() / "answers";
  find_answers("digits", all, answers);

  const auto load_once = [&] {
    std::vector<Load> loads;
    for (std::uint32_t client = 0; client < clients; ++client)
      loads.emplace_back(Load::Options{.deployment = "digits",
                                       .answers = answers,
                                       .first = client * requests_each,
                                       .count = requests_each,
                                       .in_flight = 4});
    return finish(loads);
  };
  // Each slot's pages, and each process's buffers, are there after the first round.
  load_once();
  const auto done_before = tasks_done();
  const Memory before;

  const Report report = load_once();
  EXPECT_EQ(report.answered, all);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(report.epochs_lost, 0u);
  EXPECT_GT(report.overtaken, 0u);

  // Every task ran once for each request, and no more.
  const auto done_after = tasks_done();
  const json status = deployment("digits");
  for (const json& entry : status["instances"]) {
    const std::string op = entry["operator"];
    EXPECT_EQ(done_after.at(op) - done_before.at(op), all * entry["tasks"].get<std::uint64_t>())
        << op;
    EXPECT_EQ(entry["restarts"], 0) << op;
  }
  EXPECT_EQ(status["in_use"], 0);

  const Memory after;
  EXPECT_EQ(after.shared, before.shared);
  ASSERT_EQ(after.of_process.size(), before.of_process.size());
  for (const auto& [pid, bytes] : after.of_process)
    EXPECT_LE(bytes, before.of_process.at(pid) + (1 << 20)) << "process " << pid;
  down();
}

TEST_F(ManyClients, AKilledClientGivesItsSlotsBack) {
  constexpr std::uint32_t depth = 8;
  up({deployment_file(depth)});
  const json gemm = instance("digits", "gemm");
  const auto in_use = [] { return deployment("digits")["in_use"].get<std::uint32_t>(); };

  // With an operator that stands still nothing is answered: all of it is in flight for sure.
  ::kill(gemm["pid"].get<pid_t>(), SIGSTOP);
  {
    Process client = hold_requests("digits", depth);
    EXPECT_EQ(in_use(), depth);
    client.signal(SIGKILL);
    client.wait();
  }
  // All but one that the operator may have claimed.
  EXPECT_TRUE(eventually([&] { return in_use() <= 1; })) << in_use();
  ::kill(gemm["pid"].get<pid_t>(), SIGCONT);
  EXPECT_TRUE(eventually([&] { return in_use() == 0; })) << in_use();

  // They are all good for somebody else.
  find_answers("digits", 50, folder() / "answers");
  Process client = hold_requests("digits", depth);
  EXPECT_EQ(in_use(), depth);
  client.signal(SIGKILL);
  client.wait();
  EXPECT_TRUE(eventually([&] { return in_use() == 0; })) << in_use();
  down();
}

}  // namespace
}  // namespace opsplit::test
