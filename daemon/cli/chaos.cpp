// chaos: kills and stops a deployment's processes under load, and tells what became of every request.
//
// The main thread strikes, and reads what the clients tell. Another one watches: it asks opsplitd for
// pids a few times a second, as `opsplit ps` does, and so starts a successor of one that has ended.
#include "daemon/chaos.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <list>
#include <mutex>
#include <thread>

#include "daemon/cli/chaos_client.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/paths.hpp"
#include "daemon/quantile.hpp"
#include "daemon/table.hpp"
#include "ipc/futex.hpp"

extern char** environ;

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using std::chrono::nanoseconds;

constexpr int most_in_flight = 3;  // of each client
constexpr auto time_between_looks = 50ms;
constexpr auto calm = 3s;             // under load, before the first fault
constexpr auto end_of_clients = 90s;  // longer than they wait for an answer
constexpr auto settling = 60s;        // until everything is as it was
// opsplitd gives up what dies five times in ten seconds, a broker ten times: that is not to be tested.
constexpr auto window = 10s;
constexpr std::size_t deaths_in_window = 3;
// What may be left without being a leak.
constexpr std::int64_t spare_memory = 16 << 20;
constexpr std::int64_t spare_shared_memory = 1 << 20;
constexpr std::int64_t spare_descriptors = 8;

std::atomic<bool> interrupted{false};

struct ChaosOptions {
  std::string deployment;
  nanoseconds time = 60s;
  nanoseconds every = 1s;
  std::vector<Victim> victims = {all_victims.begin(), all_victims.end()};
  bool hang = false;
  std::uint64_t seed = 1;
  int clients = 4;
  std::filesystem::path json_file;
};

// A process that can be struck: by pidfd, so that a pid that is used again is never touched.
struct LiveProcess {
  std::string name;
  ProcessIdentity identity;
  std::string state = {};  // an operator's, as opsplitd said
};

Result<> send_signal(const LiveProcess& target, int signal) {
  OPSPLIT_TRY(const FileDescriptor pidfd, open_pidfd(target.identity));
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0)
    return fail_errno(errno, "{} (pid {})", target.name, target.identity.pid);
  return {};
}

// Only what is one of our programs: opsplitd says pids, and may have said this one long ago.
std::optional<LiveProcess> target(std::string name, pid_t pid, std::string_view program) {
  std::error_code error;
  const auto identity = identify(pid);
  const auto executable = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), error);
  if (!identity || error || executable.filename() != program) return std::nullopt;
  return LiveProcess{std::move(name), *identity};
}

// The deployment as opsplitd saw it last.
struct Snapshot {
  std::optional<LiveProcess> daemon, broker;
  std::vector<LiveProcess> operators;
  json deployment;
  bool settled = false;  // ready, nothing under way, and no earlier epoch is left
};

class Watcher {
 public:
  Watcher(std::filesystem::path folder, std::string deployment)
      : folder_(std::move(folder)), deployment_(std::move(deployment)) {}

  Result<> look() {
    OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(folder_));
    OPSPLIT_TRY(const json status, opsplitd.ps());
    Snapshot seen;
    seen.daemon = target("opsplitd", status.value("pid", 0), "opsplitd");
    seen.broker = target("the broker", status.value("broker", 0), "opsplit-broker");
    for (const json& deployment : status.value("deployments", json::array()))
      if (deployment.value("name", "") == deployment_) seen.deployment = deployment;
    if (seen.deployment.is_null())
      return fail(ErrorCode::not_found, "no deployment '{}': see `opsplit ps`", deployment_);
    seen.settled = seen.deployment.value("phase", "") == "ready" &&
                   seen.deployment.value("in_use", 1) == 0 && !seen.deployment.contains("retiring");
    for (const json& instance : seen.deployment.value("instances", json::array())) {
      const std::string state = instance.value("state", "");
      seen.settled = seen.settled && (state == "ready" || state == "standby");
      // One that somebody else starts, nobody here starts again.
      if (instance.value("log", "").empty()) continue;
      if (auto found = target(
              fmt::format("{}.{}", instance.value("operator", ""), instance.value("instance", 0)),
              instance.value("pid", 0), "opsplit-operator")) {
        found->state = state;
        seen.operators.push_back(std::move(*found));
      }
    }
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(seen);
    return {};
  }

  [[nodiscard]] Snapshot snapshot() const {
    const std::lock_guard lock(mutex_);
    return snapshot_;
  }

  // Until it is told to stop. Errors pass: opsplitd has just been killed, say.
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      (void)look();
      std::this_thread::sleep_for(time_between_looks);
    }
  }

 private:
  std::filesystem::path folder_;
  std::string deployment_;
  mutable std::mutex mutex_;
  Snapshot snapshot_;
};

// One of our own, with a pipe.
struct ChaosClientProcess {
  std::uint32_t number = 0;
  LiveProcess process;
  FileDescriptor pidfd;
  FileDescriptor output;
  std::string unread;  // less than an event
};

// Ends with this process: it is killed then.
class Clients {
 public:
  Clients(const Invocation& invocation, std::string deployment)
      : folder_(invocation.folder), deployment_(std::move(deployment)) {}
  ~Clients() {
    for (const ChaosClientProcess& client : clients_) {
      (void)send_signal(client.process, SIGKILL);
      ::waitpid(client.process.identity.pid, nullptr, 0);
    }
  }

  // The right answers, found by one of them before anything else happens.
  Result<> find_answers() {
    answers_ = FileDescriptor(::memfd_create("opsplit.answers", MFD_CLOEXEC));
    if (!answers_) return fail_errno(errno, "memfd_create");
    OPSPLIT_CHECK(start({"--find-answers"}));
    ChaosClientProcess& client = clients_.back();
    std::array<char, 1 << 16> buffer;
    ssize_t bytes = 0;
    while ((bytes = ::read(client.output.get(), buffer.data(), buffer.size())) > 0)
      if (::write(answers_.get(), buffer.data(), static_cast<std::size_t>(bytes)) != bytes)
        return fail_errno(errno, "the answers");
    int status = 0;
    ::waitpid(client.process.identity.pid, &status, 0);
    clients_.pop_back();
    if (status != 0) return fail(ErrorCode::unavailable, "no right answers were found: see above");
    return {};
  }

  Result<> start(const std::vector<std::string>& options) {
    const std::uint32_t number = ++last_number_;
    std::vector<std::string> arguments = {(program_folder() / "opsplit").string(),
                                          "--folder",
                                          folder_.string(),
                                          "chaos-client",
                                          deployment_,
                                          std::to_string(number)};
    arguments.insert(arguments.end(), options.begin(), options.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    FileDescriptor output(ends[0]), input(ends[1]);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, answers_.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, input.get(), STDOUT_FILENO);
    pid_t pid = 0;
    const int error = posix_spawn(&pid, argv[0], &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) return fail_errno(error, "could not start {}", arguments[0]);
    OPSPLIT_TRY(const ProcessIdentity identity, identify(pid));
    OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(identity));
    clients_.push_back({number,
                        {fmt::format("client {}", number), identity},
                        std::move(pidfd),
                        std::move(output),
                        ""});
    return {};
  }

  // What they have told since; waits for it at the most until the deadline. Those that have ended are
  // forgotten, after what they told last.
  void hear(ChaosAccount& account, Deadline deadline) {
    std::vector<pollfd> waits;
    for (const ChaosClientProcess& client : clients_)
      waits.push_back({client.output.get(), POLLIN, 0});
    ::poll(waits.data(), waits.size(), poll_timeout(deadline));
    auto client = clients_.begin();
    for (const pollfd& wait : waits) {
      if (wait.revents == 0 || read(*client, account)) {
        ++client;
        continue;
      }
      int status = 0;
      ::waitpid(client->process.identity.pid, &status, 0);
      const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
      if (killed || status == 0)
        account.client_died(client->number);
      else
        account.client_failed(client->number);
      client = clients_.erase(client);
    }
  }

  [[nodiscard]] std::size_t size() const { return clients_.size(); }
  [[nodiscard]] std::vector<LiveProcess> targets() const {
    std::vector<LiveProcess> targets;
    for (const ChaosClientProcess& client : clients_) targets.push_back(client.process);
    return targets;
  }

 private:
  // False: it has ended.
  static bool read(ChaosClientProcess& client, ChaosAccount& account) {
    std::array<char, 1 << 16> buffer;
    const ssize_t bytes = ::read(client.output.get(), buffer.data(), buffer.size());
    if (bytes <= 0) return bytes < 0 && errno == EINTR;
    client.unread.append(buffer.data(), static_cast<std::size_t>(bytes));
    std::size_t at = 0;
    for (RequestEvent event{}; client.unread.size() - at >= sizeof event; at += sizeof event) {
      std::memcpy(&event, client.unread.data() + at, sizeof event);
      account.add(event);
    }
    client.unread.erase(0, at);
    return true;
  }

  std::filesystem::path folder_;
  std::string deployment_;
  FileDescriptor answers_{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  std::list<ChaosClientProcess> clients_;
  std::uint32_t last_number_ = 0;
};

// What a deployment takes of the machine, when nothing is under way.
struct Footprint {
  std::int64_t processes = 0;  // operators and brokers of this opsplitd
  std::int64_t shared_memory = 0;
  std::int64_t daemon_memory = 0;
  std::int64_t daemon_descriptors = 0;

  static Footprint of(const Snapshot& snapshot, const std::filesystem::path& folder) {
    Footprint result;
    std::error_code error;
    // A folder of the same name in another container, whose processes we see, is not this one.
    const auto ipc_namespace = std::filesystem::read_symlink("/proc/self/ns/ipc", error);
    for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
      const auto program = std::filesystem::read_symlink(process.path() / "exe", error).filename();
      if (program != "opsplit-operator" && program != "opsplit-broker") continue;
      if (std::filesystem::read_symlink(process.path() / "ns/ipc", error) != ipc_namespace)
        continue;
      const auto arguments = read_file(process.path() / "cmdline");  // with a socket in its folder
      result.processes += arguments && arguments->find(folder.native() + '/') != std::string::npos;
    }
    // What is mapped and has no name any more counts, too.
    const auto space = std::filesystem::space("/dev/shm", error);
    result.shared_memory = static_cast<std::int64_t>(space.capacity - space.free);
    if (!snapshot.daemon) return result;
    const ProcessIdentity& daemon = snapshot.daemon->identity;
    if (const auto usage = usage_of(daemon))
      result.daemon_memory = static_cast<std::int64_t>(usage->memory_bytes);
    const auto descriptors =
        std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", daemon.pid), error);
    result.daemon_descriptors = std::distance(begin(descriptors), end(descriptors));
    return result;
  }
};

struct Struck {
  Fault fault;
  std::string victim;  // empty: there was none, or it had died too often lately
  std::string state;
};

class Chaos {
 public:
  Chaos(const Invocation& invocation, ChaosOptions options)
      : options_(std::move(options)),
        folder_(invocation.folder),
        watcher_(invocation.folder, options_.deployment),
        clients_(invocation, options_.deployment) {}

  // Everything that was stopped goes on, whatever happens.
  ~Chaos() {
    for (const LiveProcess& stopped : stopped_) (void)send_signal(stopped, SIGCONT);
  }

  Result<json> run() {
    OPSPLIT_CHECK(watcher_.look());
    if (watcher_.snapshot().operators.empty() && strikes(Victim::operators))
      return fail(ErrorCode::refused,
                  "'{}': its operators are not opsplitd's to start again (attach): choose others "
                  "with --kill",
                  options_.deployment);
    // Whoever holds a slot and waits for another one might wait for ever.
    const int depth = watcher_.snapshot().deployment.value("depth", 1);
    if (options_.clients > depth)
      return fail(ErrorCode::invalid_input, "--clients {}: the deployment has {} slots (depth)",
                  options_.clients, depth);
    in_flight_ = std::to_string(std::min(most_in_flight, depth / options_.clients));
    OPSPLIT_CHECK(clients_.find_answers());
    OPSPLIT_CHECK(settle());
    const Footprint before = Footprint::of(watcher_.snapshot(), folder_);
    std::jthread watching([this](const std::stop_token& stop) { watcher_.run(stop); });
    for (int i = 0; i < options_.clients; ++i) OPSPLIT_CHECK(clients_.start({in_flight_}));
    OPSPLIT_CHECK(hear_for(calm));
    begin_ = Clock::now();
    account_.begin();
    const auto faults = chaos_schedule(options_.victims, options_.hang, options_.seed,
                                       options_.time, options_.every);
    for (const Fault& fault : faults) {
      OPSPLIT_CHECK(hear_for(begin_ + fault.at - Clock::now()));
      if (interrupted) break;
      strike(fault);
    }
    OPSPLIT_CHECK(hear_for(begin_ + options_.time - Clock::now()));
    const Deadline took = Clock::now();
    // Answers after the last faults, too.
    const Deadline recovered_by = Clock::now() + settling;
    do OPSPLIT_CHECK(hear_for(1s));
    while (account_.unrecovered() != 0 && Clock::now() < recovered_by && !interrupted);
    for (const LiveProcess& client : clients_.targets()) (void)send_signal(client, SIGTERM);
    const Deadline give_up = Clock::now() + end_of_clients;
    while (clients_.size() != 0 && Clock::now() < give_up)
      clients_.hear(account_, Clock::now() + 100ms);
    account_.close();
    watching.request_stop();
    watching.join();
    for (const LiveProcess& stopped : std::exchange(stopped_, {}))
      (void)send_signal(stopped, SIGCONT);
    const auto settled = settle();
    const Footprint after = Footprint::of(watcher_.snapshot(), folder_);
    return verdict(std::chrono::duration<double>(took - begin_).count(), before, after, settled);
  }

 private:
  [[nodiscard]] bool strikes(Victim victim) const {
    return std::ranges::find(options_.victims, victim) != options_.victims.end();
  }

  // Clients that have died are started again meanwhile.
  Result<> hear_for(nanoseconds time) {
    const Deadline end = Clock::now() + std::chrono::duration_cast<Clock::duration>(time);
    while (Clock::now() < end && !interrupted) {
      clients_.hear(account_, std::min(end, Clock::now() + 20ms));
      while (clients_.size() < static_cast<std::size_t>(options_.clients))
        OPSPLIT_CHECK(clients_.start({in_flight_}));
      notice_successor();
      show_progress();
    }
    return {};
  }

  void strike(const Fault& fault) {
    const Snapshot now = watcher_.snapshot();
    std::vector<LiveProcess> candidates;
    if (fault.victim == Victim::operators) candidates = now.operators;
    if (fault.victim == Victim::client) candidates = clients_.targets();
    if (fault.victim == Victim::daemon && now.daemon) candidates = {*now.daemon};
    if (fault.victim == Victim::broker && now.broker) candidates = {*now.broker};
    // What hangs before it is ready is given minutes: it may only be slow.
    const bool starting = now.deployment.value("phase", "") != "ready";
    if (fault.hangs && fault.victim == Victim::broker && starting) candidates.clear();
    if (fault.hangs)
      std::erase_if(candidates, [](const LiveProcess& c) { return c.state == "starting"; });
    const Deadline time = Clock::now();
    std::erase_if(candidates, [&](const LiveProcess& candidate) {
      auto& deaths = deaths_[candidate.name];
      std::erase_if(deaths, [&](Deadline death) { return death < time - window; });
      return deaths.size() >= deaths_in_window && fault.victim != Victim::client;
    });
    struck_.push_back({fault, "", ""});
    if (candidates.empty()) return;
    const LiveProcess& victim = candidates[fault.pick % candidates.size()];
    const std::uint64_t at_ns = futex_.now_ns();
    if (!send_signal(victim, fault.hangs ? SIGSTOP : SIGKILL)) return;  // it has just ended
    struck_.back().victim = victim.name;
    struck_.back().state = victim.state;
    deaths_[victim.name].push_back(time);
    if (fault.hangs) stopped_.push_back(victim);
    account_.fault_struck(fault.victim, at_ns);
    if (fault.victim == Victim::daemon && !fault.hangs)
      daemon_died_ = {victim.identity.pid, Clock::now()};
  }

  void notice_successor() {
    if (!daemon_died_) return;
    const Snapshot now = watcher_.snapshot();
    if (!now.daemon || now.daemon->identity.pid == daemon_died_->first ||
        now.deployment.value("phase", "") != "ready")
      return;
    adopted_ms_.push_back(
        std::chrono::duration<double, std::milli>(Clock::now() - daemon_died_->second).count());
    ::waitpid(daemon_died_->first, nullptr, WNOHANG);  // perhaps our child
    daemon_died_.reset();
  }

  Result<> settle() {
    const Deadline give_up = Clock::now() + settling;
    Result<> looked = watcher_.look();
    while (Clock::now() < give_up && (!looked || !watcher_.snapshot().settled)) {
      std::this_thread::sleep_for(time_between_looks);
      looked = watcher_.look();
    }
    if (looked && !watcher_.snapshot().settled)
      return fail(ErrorCode::timed_out, "'{}' does not come to rest within {} s: see `opsplit ps`",
                  options_.deployment, settling.count());
    return looked;
  }

  void show_progress() {
    if (::isatty(STDERR_FILENO) == 0 || Clock::now() < show_again_) return;
    show_again_ = Clock::now() + 1s;
    const auto& count = account_.count();
    fmt::print(stderr, "\r{} faults, {} requests, {} answers, {} lost, {} wrong\x1b[K",
               struck_.size(), count.requests, count.answered, count.lost, count.wrong);
  }

  [[nodiscard]] json verdict(double seconds, const Footprint& before, const Footprint& after,
                             const Result<>& settled) const {
    const auto& count = account_.count();
    json result = {{"deployment", options_.deployment},
                   {"seed", options_.seed},
                   {"seconds", seconds},
                   {"requests", count.requests},
                   {"answers", count.answered},
                   {"refused", count.refused},
                   {"epochs_lost", count.epochs_lost},
                   {"died_with_client", count.died_with_client},
                   {"lost", count.lost},
                   {"doubled", count.doubled},
                   {"wrong", count.wrong},
                   {"unrecovered", account_.unrecovered()},
                   {"longest_silence_ms", account_.longest_silence_ms()},
                   {"faults", json::array()},
                   {"recovery", json::object()},
                   {"latency", {{"under_way", json::object()}}},
                   {"leaks", json::array()}};
    for (const Struck& struck : struck_)
      result["faults"].push_back(
          {{"at_ms", std::chrono::duration<double, std::milli>(struck.fault.at).count()},
           {"kind", to_string(struck.fault.victim)},
           {"signal", struck.fault.hangs ? "SIGSTOP" : "SIGKILL"},
           {"pick", struck.fault.pick},
           {"victim", struck.victim},
           {"state", struck.state}});
    const auto quantiles = [](const std::vector<double>& ms) {
      return json{{"count", ms.size()},
                  {"p50_ms", quantile(ms, 0.5)},
                  {"p99_ms", quantile(ms, 0.99)},
                  {"max_ms", quantile(ms, 1)}};
    };
    for (const auto& [victim, ms] : account_.recoveries())
      result["recovery"][std::string(to_string(victim))] = quantiles(ms);
    const auto& latencies = account_.latencies();
    result["latency"]["before"] = quantiles(latencies.before);
    for (const auto& [victim, ms] : latencies.under_way)
      result["latency"]["under_way"][std::string(to_string(victim))] = quantiles(ms);
    result["latency"]["others"] = quantiles(latencies.others);
    if (!adopted_ms_.empty()) result["adopted"] = quantiles(adopted_ms_);
    const auto compare = [&](const char* what, std::int64_t was, std::int64_t is,
                             std::int64_t spare) {
      if (is > was + spare)
        result["leaks"].push_back(fmt::format("{}: {} before, {} after", what, was, is));
    };
    compare("operators and brokers", before.processes, after.processes, 0);
    compare("bytes in /dev/shm", before.shared_memory, after.shared_memory, spare_shared_memory);
    compare("bytes of opsplitd", before.daemon_memory, after.daemon_memory, spare_memory);
    compare("descriptors of opsplitd", before.daemon_descriptors, after.daemon_descriptors,
            spare_descriptors);
    if (!settled) result["leaks"].push_back(settled.error().message);
    return result;
  }

  ChaosOptions options_;
  std::filesystem::path folder_;
  Watcher watcher_;
  Clients clients_;
  ChaosAccount account_;
  ipc::SystemFutex futex_;
  std::string in_flight_;  // of each client
  Deadline begin_;
  Deadline show_again_{};
  std::vector<Struck> struck_;
  std::vector<LiveProcess> stopped_;
  std::map<std::string, std::vector<Deadline>> deaths_;  // lately, by name
  std::optional<std::pair<pid_t, Deadline>> daemon_died_;
  std::vector<double> adopted_ms_;
};

void print_verdict(const json& verdict) {
  std::vector<std::vector<std::string>> rows = {
      {"killed or stopped", "times", "recovery ms p50", "p99", "max"}};
  const auto add = [&](const std::string& name, const json& times) {
    rows.push_back({name, std::to_string(times.value("count", 0)),
                    fmt::format("{:.1f}", times.value("p50_ms", 0.0)),
                    fmt::format("{:.1f}", times.value("p99_ms", 0.0)),
                    fmt::format("{:.1f}", times.value("max_ms", 0.0))});
  };
  for (const auto& [name, times] : verdict["recovery"].items()) add(name, times);
  if (verdict.contains("adopted")) add("daemon: taken over", verdict["adopted"]);
  fmt::print("{}\n", render_table(rows));
  rows = {{"requests answered", "count", "latency ms p50", "p99", "max"}};
  const json& latency = verdict["latency"];
  add("before the first fault", latency["before"]);
  for (const auto& [name, times] : latency["under_way"].items())
    add("under way at a fault: " + name, times);
  add("all others", latency["others"]);
  fmt::print("{}\n", render_table(rows));
  rows = {{"requests", "answers", "refused", "epoch lost", "died with client", "lost", "doubled",
           "wrong"},
          {}};
  for (const char* key : {"requests", "answers", "refused", "epochs_lost", "died_with_client",
                          "lost", "doubled", "wrong"})
    rows.back().push_back(std::to_string(verdict.value(key, std::uint64_t{0})));
  fmt::print("{}longest silence {:.1f} ms, in {:.1f} s\n", render_table(rows),
             verdict.value("longest_silence_ms", 0.0), verdict.value("seconds", 0.0));
  for (const json& leak : verdict["leaks"]) fmt::print("leak: {}\n", leak.get<std::string>());
}

Result<> chaos(const Invocation& invocation, const ChaosOptions& options) {
  if (ContainerDeployment::find(invocation.folder, options.deployment))
    return fail(ErrorCode::refused,
                "'{}' runs in containers: its engine starts them, and ends them",
                options.deployment);
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });
  OPSPLIT_TRY(const json verdict, Chaos(invocation, options).run());
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\x1b[K");
  print_verdict(verdict);
  if (!options.json_file.empty())
    OPSPLIT_CHECK(write_output(options.json_file, verdict.dump(2) + '\n'));
  const auto bad = [&](const char* key) { return verdict.value(key, std::uint64_t{0}); };
  if (bad("lost") + bad("doubled") + bad("wrong") + bad("epochs_lost") + bad("unrecovered") != 0 ||
      !verdict["leaks"].empty())
    return fail(
        ErrorCode::operator_failed,
        "chaos: {} lost, {} doubled, {} wrong, {} ended with their epoch, {} faults without "
        "recovery, {} leaks",
        bad("lost"), bad("doubled"), bad("wrong"), bad("epochs_lost"), bad("unrecovered"),
        verdict["leaks"].size());
  fmt::print("nothing lost, doubled, wrong or left\n");
  return {};
}

}  // namespace

void add_chaos(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand(
      "chaos", "Kill a deployment's processes under load, and count what is lost");
  auto options = std::make_shared<ChaosOptions>();
  auto kinds = std::make_shared<std::vector<std::string>>();
  auto seconds = std::make_shared<double>(60);
  auto every = std::make_shared<double>(1);
  command->add_option("deployment", options->deployment, "A deployment that runs")->required();
  command->add_option("--for", *seconds, "How long: 60s, 5min")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}}))
      ->check(CLI::Range(0.1, 1e6))
      ->default_str("60s");
  command->add_option("--every", *every, "Time between two faults in the mean, 100ms at least")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}}))
      ->check(CLI::Range(0.1, 1e6))
      ->default_str("1s");
  command->add_option("--kill", *kinds, "What: operators, daemon, broker, client (default: all)")
      ->delimiter(',');
  command->add_flag("--hang", options->hang, "Stop half of them (SIGSTOP) instead; never a client");
  command->add_option("--seed", options->seed, "Another schedule of faults")->capture_default_str();
  command
      ->add_option("--clients", options->clients, "Processes that send requests, up to 3 at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--json", options->json_file, "Also write the verdict to this file");
  command->footer(
      "Example: opsplit chaos digits --for 60s --kill operators,broker --hang --seed 7");
  command->callback([&, options, kinds, seconds, every] {
    invocation.run = [&invocation, options, kinds, seconds, every]() -> Result<> {
      options->time = std::chrono::nanoseconds(static_cast<std::int64_t>(*seconds * 1e9));
      options->every = std::chrono::nanoseconds(static_cast<std::int64_t>(*every * 1e9));
      if (!kinds->empty()) options->victims.clear();
      for (const std::string& kind : *kinds) {
        OPSPLIT_TRY(const Victim victim, parse_victim(kind));
        options->victims.push_back(victim);
      }
      return chaos(invocation, *options);
    };
  });
}

}  // namespace opsplit::daemon::cli
