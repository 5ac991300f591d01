#include "tests/system/harness.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "daemon/paths.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::test {
namespace {

namespace fs = std::filesystem;

std::string read_all(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

fs::path new_folder() {
  std::string path = "/tmp/opsplit-test-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  return path;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

int status_of(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
}

// Parent of each process; the command's name may hold anything, the fields follow its last ')'.
std::map<pid_t, pid_t> parents() {
  std::map<pid_t, pid_t> result;
  for (const std::string& name : names_in("/proc")) {
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = read_all("/proc/" + name + "/stat");
    const auto end = stat.rfind(')');
    if (end == std::string::npos) continue;
    std::istringstream fields(stat.substr(end + 1));
    char state = 0;
    pid_t parent = 0;
    fields >> state >> parent;
    result[static_cast<pid_t>(std::stoi(name))] = parent;
  }
  return result;
}

bool descends(pid_t pid, pid_t ancestor, const std::map<pid_t, pid_t>& parents) {
  while (pid != ancestor) {
    const auto found = parents.find(pid);
    if (found == parents.end() || found->second <= 1) return false;
    pid = found->second;
  }
  return true;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

Process::Process(const std::vector<std::string>& arguments) : folder_(new_folder()) {
  std::vector<char*> words;
  for (const auto& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  const std::string out = folder_ / "out", err = folder_ / "err";
  pid_ = ::fork();
  if (pid_ != 0) return;
  const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT, 0600);
  const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
  ::dup2(out_fd, STDOUT_FILENO);
  ::dup2(err_fd, STDERR_FILENO);
  ::execv(words[0], words.data());
  ::_exit(127);
}

Process::~Process() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

std::string Process::out() const { return read_all(folder_ / "out"); }
std::string Process::err() const { return read_all(folder_ / "err"); }

bool Process::has_ended() {
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    pid_ = 0;
    status_ = status_of(status);
  }
  return pid_ == 0;
}

Outcome Process::wait(std::chrono::milliseconds limit) {
  if (!eventually([&] { return has_ended(); }, limit)) {
    ADD_FAILURE() << "still running after " << limit.count() << " ms\n" << out() << err();
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    status_ = status_of(status);
  }
  return {status_, out(), err()};
}

std::string program(const std::string& name) { return OPSPLIT_BIN_DIR "/" + name; }

Process start_opsplit(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program("opsplit"));
  return Process(arguments);
}

Outcome opsplit(std::vector<std::string> arguments) {
  return start_opsplit(std::move(arguments)).wait();
}

Process start_helper(std::vector<std::string> arguments) {
  const std::string self = fs::read_symlink("/proc/self/exe");
  arguments.insert(arguments.begin(), {self, "--helper"});
  return Process(arguments);
}

json ps() {
  const Outcome outcome = opsplit({"ps", "--json"});
  return outcome.status == 0 ? json::parse(outcome.out) : json();
}

json deployment(const std::string& name) {
  const json status = ps();
  if (status.is_null()) return {};
  for (const json& entry : status["deployments"])
    if (entry["name"] == name) return entry;
  return {};
}

std::vector<json> instances(const std::string& deployment_name, const std::string& op) {
  std::vector<json> result;
  const json found = deployment(deployment_name);
  if (!found.contains("instances")) return result;
  for (const json& entry : found["instances"])
    if (entry["operator"] == op) result.push_back(entry);
  return result;
}

json instance(const std::string& deployment_name, const std::string& op) {
  const auto all = instances(deployment_name, op);
  return all.empty() ? json() : all.front();
}

fs::path socket_path() { return daemon::default_folder() / "opsplitd.sock"; }

std::string error_line(const Outcome& outcome) {
  EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
  constexpr std::string_view prefix = "opsplit: ";
  std::istringstream lines(outcome.err);
  std::string error;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(error.empty()) << "a line after the error: " << line;
    if (line.starts_with(prefix))
      error = line.substr(prefix.size());
    else
      EXPECT_TRUE(line.ends_with(" ...")) << "neither progress nor the error: " << line;
  }
  EXPECT_FALSE(error.empty()) << outcome.err;
  return error;
}

std::vector<pid_t> our_processes() {
  // Those that were left to us have ended, or are found below.
  const auto tree = parents();
  std::vector<pid_t> found;
  for (const auto& [pid, parent] : tree) {
    if (pid == ::getpid() || !descends(pid, ::getpid(), tree)) continue;
    std::error_code error;
    const std::string path = fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", error);
    if (!error && path.starts_with(OPSPLIT_BIN_DIR "/")) found.push_back(pid);
  }
  return found;
}

std::uint64_t private_bytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;)
    if (word == "RssAnon:") {
      std::uint64_t kib = 0;
      status >> kib;
      return kib << 10;
    }
  return 0;
}

std::uint64_t shared_bytes() {
  std::uint64_t sum = 0;
  for (const auto& entry : fs::recursive_directory_iterator("/dev/shm")) {
    struct stat info {};
    if (::lstat(entry.path().c_str(), &info) == 0)
      sum += static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  return sum;
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

SystemTest::SystemTest() : folder_(new_folder()), shared_before_(names_in("/dev/shm")) {
  // What a killed parent leaves comes to us, and stays ours to find.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

SystemTest::~SystemTest() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::vector<std::string> SystemTest::leftovers() const {
  std::vector<std::string> found;
  for (const pid_t pid : our_processes()) {
    std::string command = read_all("/proc/" + std::to_string(pid) + "/cmdline");
    std::ranges::replace(command, '\0', ' ');
    found.push_back(fmt::format("process {}: {}", pid, command));
  }
  for (const std::string& name : names_in("/dev/shm"))
    if (!std::ranges::binary_search(shared_before_, name)) found.push_back("/dev/shm/" + name);
  const fs::path devices = daemon::default_folder() / daemon::device_folder_name;
  for (const fs::path& place : {daemon::default_folder(), devices, fs::path("/tmp")})
    for (const std::string& name : names_in(place)) {
      std::error_code ignored;
      if (fs::is_socket(place / name, ignored)) found.push_back((place / name).string());
    }
  return found;
}

void SystemTest::up(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "up");
  const Outcome outcome = opsplit(std::move(arguments));
  if (outcome.status != 0) throw std::runtime_error("up: " + outcome.err);
}

void SystemTest::down() {
  const Outcome outcome = opsplit({"down"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

void SystemTest::TearDown() {
  eventually([&] { return leftovers().empty(); }, 5s);
  for (const std::string& leftover : leftovers()) ADD_FAILURE() << "left behind: " << leftover;
  if (HasFailure()) {
    std::cerr << read_all(daemon::default_folder() / "opsplitd.log");
    // The next test begins with nothing, all the same.
    for (const pid_t pid : our_processes()) ::kill(pid, SIGKILL);
    eventually([] { return our_processes().empty(); });
    if (in_private_namespace())
      for (const std::string& name : names_in("/dev/shm")) fs::remove_all("/dev/shm/" + name);
  }
  // opsplitd was nobody's child any more, so it became ours.
  while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
}

}  // namespace opsplit::test
