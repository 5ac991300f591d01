// Operators that die under load: nothing lost, nothing wrong, each of them back.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "ipc/client.hpp"
#include "tests/graph/model_builder.hpp"
#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

class KillOperators : public SystemTest {
 protected:
  // Two convolution processes; the rest once.
  void up_digits(const std::string& name = "digits") {
    const auto file = folder() / (name + ".yaml");
    write_file(file, fmt::format("name: {}\nmodel: {}\nsplit: by-type\ndepth: 16\n"
                                 "operators:\n  conv: {{instances: 2}}\n",
                                 name, digits_model));
    up({file});
  }

  [[nodiscard]] std::vector<Load> start_loads(const std::filesystem::path& answers,
                                              std::uint32_t clients, std::uint32_t requests_each) {
    std::vector<Load> loads;
    for (std::uint32_t client = 0; client < clients; ++client)
      loads.emplace_back(Load::Options{.deployment = "digits",
                                       .answers = answers,
                                       .first = client * requests_each,
                                       .count = requests_each,
                                       .in_flight = 4,
                                       .repeat = true});
    return loads;
  }
};

// Kills an instance of `op` as often as it takes to be given up.
void kill_until_failed(const std::string& deployment_name, const std::string& op) {
  pid_t last = 0;
  EXPECT_TRUE(eventually([&] {
    const json found = instance(deployment_name, op);
    if (found["state"] == "failed") return true;
    const pid_t pid = found["pid"];
    if (found["state"] == "ready" && pid != last) ::kill(last = pid, SIGKILL);
    return false;
  }));
}

TEST_F(KillOperators, NoAnswerIsLostDoubledOrWrong) {
  constexpr int kills = 60;
  constexpr std::uint64_t most_deaths = 4;  // within 10 s; at the fifth it is given up
  constexpr auto window = 12s;              // opsplitd sees a death a little after us
  up_digits();
  const auto answers = folder() / "answers";
  find_answers("digits", 2000, answers);
  std::vector<Load> loads = start_loads(answers, 4, 500);

  std::mt19937 random(20261);
  std::map<std::string, std::deque<std::chrono::steady_clock::time_point>> deaths;
  std::map<std::string, int> killed;
  std::map<pid_t, std::uint64_t> done_before;  // by earlier lives of the instance
  const auto id_of = [](const json& entry) {
    return fmt::format("{}.{}", entry["operator"].get<std::string>(), entry["instance"].get<int>());
  };
  std::set<pid_t> killed_pids;  // opsplitd may not have seen their deaths yet
  // Whoever is up and has done something in this life: a request has two lives.
  const auto candidates = [&] {
    std::vector<json> found;
    const auto now = std::chrono::steady_clock::now();
    const json digits = deployment("digits");
    for (const json& entry : digits["instances"]) {
      auto& times = deaths[id_of(entry)];
      while (!times.empty() && times.front() + window < now) times.pop_front();
      if (entry["state"] != "ready" || killed_pids.contains(entry["pid"].get<pid_t>())) continue;
      const auto done = entry["tasks_done"].get<std::uint64_t>();
      const auto before = done_before.try_emplace(entry["pid"].get<pid_t>(), done).first->second;
      if (done > before + 50 && times.size() < most_deaths) found.push_back(entry);
    }
    return found;
  };
  for (int kill = 0; kill < kills; ++kill) {
    std::vector<json> found;
    ASSERT_TRUE(eventually([&] { return !(found = candidates()).empty(); })) << "after " << kill;
    const json victim = found[random() % found.size()];
    const pid_t pid = victim["pid"];
    ::kill(pid, SIGKILL);
    killed_pids.insert(pid);
    deaths[id_of(victim)].push_back(std::chrono::steady_clock::now());
    ++killed[id_of(victim)];
  }

  // Each comes back, and says how often it had to.
  EXPECT_TRUE(eventually([&] {
    const json status = deployment("digits");
    return std::ranges::all_of(status["instances"], [&](const json& entry) {
      return entry["state"] == "ready" && entry["restarts"] == killed[id_of(entry)];
    });
  })) << deployment("digits").dump(2);
  const Report report = finish(loads);
  EXPECT_GT(report.answered, 1000u);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(report.epochs_lost, 0u);
  EXPECT_EQ(deployment("digits")["in_use"], 0);
  down();
}

TEST_F(KillOperators, OneThatStandsStillIsKilledAndItsTaskRunAgain) {
  const auto file = folder() / "digits.yaml";
  write_file(file,
             fmt::format("model: {}\noperators: {{conv: {{hung_after: 1}}}}\n", digits_model));
  up({file});
  const auto answers = folder() / "answers";
  find_answers("digits", 100, answers);
  Load load({.answers = answers, .count = 100, .repeat = true});
  for (int stop = 0; stop < 2; ++stop) {
    const json conv = instance("digits", "conv");
    const std::uint64_t before = load.answered();
    ASSERT_TRUE(eventually([&] { return load.answered() > before + 100; }));
    ::kill(conv["pid"].get<pid_t>(), SIGSTOP);
    ASSERT_TRUE(eventually([&] {
      const json now = instance("digits", "conv");
      return now["state"] == "ready" && now["pid"] != conv["pid"];
    }));
    EXPECT_EQ(instance("digits", "conv")["last_end"],
              "signal 9 (Killed), since it made no progress");
  }
  const Report report = load.finish();
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(instance("digits", "relu")["restarts"], 0);
  down();
}

// As a fault in a kernel would, its own abort(), a limit, or somebody who asks it politely.
TEST_F(KillOperators, HoweverOneEndsItIsBackAndSaysHowItEnded) {
  up_digits();
  const auto answers = folder() / "answers";
  find_answers("digits", 200, answers);
  std::vector<Load> loads = start_loads(answers, 2, 100);
  const std::map<int, std::string> ends = {{SIGSEGV, "signal 11"}, {SIGABRT, "signal 6"},
                                           {SIGBUS, "signal 7"},   {SIGFPE, "signal 8"},
                                           {SIGXCPU, "signal 24"}, {SIGTERM, "exit code 0"}};
  const std::vector<std::string> operators = {"relu", "gemm", "maxpool"};
  std::size_t next = 0;  // none of them often enough to be given up
  for (const auto& [signal, end] : ends) {
    const std::string op = operators[next++ % operators.size()];
    const json victim = instance("digits", op);
    ::kill(victim["pid"].get<pid_t>(), signal);
    EXPECT_TRUE(eventually([&] {
      const json now = instance("digits", op);
      return now["state"] == "ready" && now["pid"] != victim["pid"];
    })) << end;
    EXPECT_EQ(instance("digits", op)["last_end"].get<std::string>().substr(0, end.size()), end);
  }
  const Report report = finish(loads);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  EXPECT_EQ(deployment("digits")["in_use"], 0);
  down();
}

TEST_F(KillOperators, AStandbyGoesOnAtOnce) {
  const auto file = folder() / "digits.yaml";
  write_file(file, fmt::format("model: {}\noperators: {{conv: {{standby: 1}}}}\n", digits_model));
  up({file});
  const auto answers = folder() / "answers";
  find_answers("digits", 100, answers);
  Load load({.answers = answers, .count = 100, .repeat = true});
  const auto in_state = [](const std::string& state) -> pid_t {
    for (const json& conv : instances("digits", "conv"))
      if (conv["state"] == state) return conv["pid"];
    return 0;
  };
  for (int death = 0; death < 3; ++death) {
    pid_t standby = 0;
    ASSERT_TRUE(eventually([&] { return (standby = in_state("standby")) != 0; })) << ps().dump(2);
    ::kill(in_state("ready"), SIGKILL);
    ASSERT_TRUE(eventually([&] { return in_state("ready") == standby; }));
    const std::uint64_t before = load.answered();
    EXPECT_TRUE(eventually([&] { return load.answered() > before + 100; }));
  }
  const Report report = load.finish();
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.failed, 0u) << report.error;
  down();
}

TEST_F(KillOperators, OneThatDiesTooOftenIsGivenUpByNameAndHarmsNoOther) {
  up_digits();
  up({digits_model, "--name", "other"});
  const auto answers = folder() / "answers";
  find_answers("other", 100, answers);
  Load other({.deployment = "other", .answers = answers, .count = 100, .repeat = true});

  kill_until_failed("digits", "softmax");
  Load refused({.deployment = "digits", .answers = answers, .count = 20});
  const Report report = refused.finish();
  EXPECT_EQ(report.answered, 0u);
  EXPECT_EQ(report.failed, 20u);
  EXPECT_NE(report.error.find("operator 'softmax' failed at '"), std::string::npos) << report.error;
  EXPECT_NE(report.error.find("died too often, last with signal 9 (Killed)"), std::string::npos)
      << report.error;

  const std::uint64_t before = other.answered();
  EXPECT_TRUE(eventually([&] { return other.answered() > before + 100; }));
  const Report well = other.finish();
  EXPECT_EQ(well.wrong, 0u);
  EXPECT_EQ(well.failed, 0u) << well.error;
  EXPECT_EQ(deployment("other")["phase"], "ready");
  EXPECT_EQ(opsplit({"down", "digits"}).status, 0);
  EXPECT_EQ(deployment("other")["phase"], "ready");
  down();
}

// One large product, for which an operator takes long enough to be caught at it.
std::filesystem::path slow_model(const std::filesystem::path& folder) {
  const auto file = folder / "slow.onnx";
  graph::ModelBuilder model;
  model.input("x", {2048, 2048})
      .floats("w", {2048, 2048}, 0.5F)
      .node("MatMul", {"x", "w"}, {"y"}, {}, "product")
      .output("y");
  model.save(file);
  return file;
}

TEST_F(KillOperators, ARequestThatKillsItsOperatorTwiceFailsWithItsName) {
  up({slow_model(folder()), "--name", "slow", "--split", "per-node"});
  {
    auto client = ipc::Client::connect({socket_path().string(), "slow"});
    ASSERT_TRUE(client) << client.error().message;
    auto request = (*client)->begin(10s);
    ASSERT_TRUE(request) << request.error().message;
    std::memset(request->input(0).data(), 0, request->input(0).size());
    ASSERT_TRUE(request->submit());

    const ipc::Board& board = request->session().board();
    const auto holder = [&]() -> ipc::LaunchNumber {
      const auto word = ipc::TaskWord::unpack(board.task(request->hold().slot, 0).word.load());
      return word.state == ipc::TaskState::claimed ? word.holder : 0;
    };
    ipc::LaunchNumber last = 0;
    for (int death = 0; death < 2; ++death) {
      ASSERT_TRUE(eventually([&] { return holder() != 0 && holder() != last; })) << death;
      last = holder();
      ::kill(static_cast<pid_t>(board.participant(last).pid.load()), SIGKILL);
    }
    const auto answered = request->wait(10s);
    ASSERT_FALSE(answered);
    EXPECT_EQ(answered.error().code, ErrorCode::operator_failed);
    EXPECT_NE(answered.error().message.find("signal 9 (Killed)"), std::string::npos)
        << answered.error().message;
    EXPECT_NE(answered.error().message.find("failed at 'product'"), std::string::npos)
        << answered.error().message;

    // The operator is back, and the next request is none of its concern.
    *request = std::move(*(*client)->begin(10s));
    std::memset(request->input(0).data(), 0, request->input(0).size());
    ASSERT_TRUE(request->submit());
    const auto next = request->wait(30s);
    EXPECT_TRUE(next) << next.error().message;
  }
  down();
}

}  // namespace
}  // namespace opsplit::test
