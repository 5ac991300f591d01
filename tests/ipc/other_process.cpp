#include "tests/ipc/other_process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "ipc/iceoryx_runtime.hpp"

namespace opsplit::test {
namespace {

std::vector<std::string> broker_command(const std::vector<std::uint64_t>& pools,
                                        const std::string& socket) {
  std::vector<std::string> command = {OPSPLIT_BIN_DIR "/opsplit-broker", "--socket", socket};
  for (const auto bytes : pools) {
    command.emplace_back("--pool");
    command.push_back(std::to_string(bytes));
  }
  return command;
}

// attach DEPLOYMENT EPOCH BYTES: copies what lies at 8 to 16, adds 1 to the word at 0, and stays.
// With "end" behind it, it ends instead.
int attach(const std::vector<std::string>& arguments) {
  const auto bytes = std::stoull(arguments.at(3));
  const auto arena = ipc::Arena::attach("helper", {arguments.at(1), std::stoull(arguments.at(2))},
                                        bytes, in_seconds(10));
  if (!arena) {
    fmt::print(stderr, "{}\n", arena.error().message);
    return 1;
  }
  auto* words = reinterpret_cast<std::atomic<std::uint64_t>*>(arena->bytes().data());
  words[2] = words[1].load();
  words[0] += 1;
  if (arguments.size() > 4) return 0;
  while (true) ::pause();
}

// A broker that ends when it is asked to register somebody, without an answer.
int mute_broker() {
  const auto last = last_lock_holder(ipc::broker_lock_path);  // the next broker wants its note back
  const auto lock = lock_exclusive(ipc::broker_lock_path,
                                   fmt::format("iceoryx {} mgmt 1", ipc::iceoryx_version()));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "/tmp/roudi"};
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!lock || ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return 1;
  char byte = 0;
  const bool asked = ::recv(socket.get(), &byte, 1, 0) == 1;
  ::unlink(address.sun_path);
  if (last) (void)write_lock_note(*lock, last->note);
  return asked ? 0 : 1;
}

}  // namespace

Child::Child(const std::vector<std::string>& arguments, int error_fd, int output_fd) {
  std::vector<char*> words;
  for (const auto& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves nothing running
  if (error_fd >= 0) ::dup2(error_fd, STDERR_FILENO);
  if (output_fd >= 0) ::dup2(output_fd, STDOUT_FILENO);
  ::execv(words[0], words.data());
  ::_exit(127);
}

Child::~Child() {
  if (pid_ > 0) stop(SIGKILL);
}

void Child::signal(int number) const { ::kill(pid_, number); }

int Child::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

BrokerProcess::BrokerProcess(const std::vector<std::uint64_t>& pools, int error_fd,
                             const std::string& socket)
    : Child(broker_command(pools, socket), error_fd) {}

BrokerProcess::~BrokerProcess() {
  if (pid() <= 0) return;
  signal(SIGTERM);
  stop(SIGCONT);
}

Result<nlohmann::json> BrokerProcess::request(const nlohmann::json& request) {
  const auto deadline = in_seconds(20);
  while (true) {
    auto socket = ipc::MessageSocket::connect(socket_path, deadline);
    if (socket) return socket->call(request, deadline);
    if (Clock::now() > deadline) return tl::unexpected(socket.error());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

Result<> BrokerProcess::publish(const ipc::ArenaId& id, std::uint64_t bytes) {
  OPSPLIT_CHECK(request(
      {{"op", "publish"}, {"deployment", id.deployment}, {"epoch", id.epoch}, {"bytes", bytes}}));
  return {};
}

Result<> BrokerProcess::withdraw(const ipc::ArenaId& id) {
  OPSPLIT_CHECK(request({{"op", "withdraw"}, {"deployment", id.deployment}, {"epoch", id.epoch}}));
  return {};
}

bool BrokerProcess::pool_is_free(std::size_t pool) {
  const auto reply = request({{"op", "ping"}});
  return reply && (*reply)["pools"][pool]["free"].get<bool>();
}

void clean_up_after_kill() {
  const BrokerProcess broker({4096});
  static_cast<void>(BrokerProcess::request({{"op", "ping"}}));
}

std::vector<std::string> helper(std::vector<std::string> arguments) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe");
  arguments.insert(arguments.begin(), {program.native(), "--helper"});
  return arguments;
}

int run_helper(const std::vector<std::string>& arguments) {
  if (arguments.at(0) == "attach") return attach(arguments);
  if (arguments.at(0) == "mute_broker") return mute_broker();
  return 127;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

Deadline in_seconds(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = in_seconds(10);
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace opsplit::test
