// A client of `opsplit chaos`: a process of its own, so that it can be killed. Standard input is a file
// with the right answers, standard output a pipe for RequestEvents (daemon/chaos.hpp).
#include "daemon/cli/chaos_client.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <deque>
#include <thread>

#include "base/content_hash.hpp"
#include "daemon/chaos.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/inference.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto patience = 60s;  // after which a request is lost
constexpr auto pause_between_attempts = 50ms;

volatile std::sig_atomic_t told_to_end = 0;

Result<> write_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "standard output");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

struct Sent {
  RequestEvent event;
  ipc::Request request;
};

class ChaosClient {
 public:
  static Result<ChaosClient> connect(const Invocation& invocation, const std::string& deployment,
                                     std::uint32_t number, std::size_t in_flight) {
    const Deadline give_up = Clock::now() + patience;
    while (true) {
      // As any command: one that has died gets a successor. It may die again before it answers.
      const auto opsplitd = DaemonClient::connect(invocation.folder);
      auto client = opsplitd ? ipc::Client::connect({opsplitd->socket_path().string(), deployment})
                             : tl::unexpected(opsplitd.error());
      if (client) return ChaosClient(std::move(*client), number, in_flight);
      if (client.error().code == ErrorCode::not_found || Clock::now() > give_up)
        return tl::unexpected(client.error());
      std::this_thread::sleep_for(pause_between_attempts);
    }
  }

  // Writes the answers' digests, one behind the other. Error: they are not the same each time.
  Result<> find_answers() {
    for (const std::vector<HostTensor>& inputs : inputs_) {
      OPSPLIT_TRY(const auto first, ask(inputs));
      OPSPLIT_TRY(const auto second, ask(inputs));
      if (first != second)
        return fail(ErrorCode::refused,
                    "the same inputs give different answers each time: nothing could be said of "
                    "right and wrong");
      OPSPLIT_CHECK(write_all(std::as_bytes(std::span(first))));
    }
    return {};
  }

  // Until SIGTERM, and the end of what is under way then.
  Result<> run() {
    OPSPLIT_CHECK(read_answers());
    while (told_to_end == 0 || !under_way_.empty()) {
      while (told_to_end == 0 && under_way_.size() < in_flight_) OPSPLIT_CHECK(send());
      if (!under_way_.empty()) OPSPLIT_CHECK(take());
    }
    return {};
  }

 private:
  ChaosClient(std::unique_ptr<ipc::Client> client, std::uint32_t number, std::size_t in_flight)
      : client_(std::move(client)), number_(number), in_flight_(in_flight) {
    for (std::uint32_t input = 0; input < different_inputs; ++input)
      inputs_.push_back(random_inputs(*client_, input + 1));
  }

  Result<std::string> ask(const std::vector<HostTensor>& inputs) {
    OPSPLIT_TRY(auto request, submit(*client_, inputs));
    OPSPLIT_CHECK(request.wait(patience));
    return digest_of_answer(request);
  }

  // Of all outputs, and of their sizes, which may vary.
  Result<std::string> digest_of_answer(const ipc::Request& request) {
    std::string all;
    for (std::size_t i = 0; i < client_->outputs().size(); ++i) {
      OPSPLIT_TRY(const auto output, request.output(i));
      all += fmt::format("{} {}\n", to_string(output.type), content_hash(output.bytes));
    }
    return content_hash(std::as_bytes(std::span(all)));
  }

  Result<> read_answers() {
    struct stat file {};
    if (::fstat(STDIN_FILENO, &file) != 0 || file.st_size == 0)
      return fail(ErrorCode::invalid_input, "standard input: no file with answers");
    std::string answers(static_cast<std::size_t>(file.st_size), '\0');
    if (::pread(STDIN_FILENO, answers.data(), answers.size(), 0) != file.st_size)
      return fail_errno(errno, "standard input");
    const std::size_t size = answers.size() / different_inputs;
    for (std::size_t input = 0; input < different_inputs; ++input)
      answers_.push_back(answers.substr(input * size, size));
    return {};
  }

  // Its index among the different inputs: neighbours differ, also of another client.
  [[nodiscard]] std::size_t input_of(std::uint64_t request) const {
    return (request + number_) % different_inputs;
  }

  Result<> send() {
    RequestEvent event{RequestEvent::Kind::sent, number_, requests_++, futex_.now_ns(), 0};
    OPSPLIT_CHECK(tell(event));
    auto request = submit(*client_, inputs_[input_of(event.request)]);
    if (!request) return ended(event, request.error());
    under_way_.push_back({event, std::move(*request)});
    return {};
  }

  Result<> take() {
    Sent sent = std::move(under_way_.front());
    under_way_.pop_front();
    if (const auto answered = sent.request.wait(patience); !answered)
      return ended(sent.event, answered.error());
    const auto answer = digest_of_answer(sent.request);
    if (!answer) return ended(sent.event, answer.error());
    sent.event.kind = *answer == answers_[input_of(sent.event.request)]
                          ? RequestEvent::Kind::answered
                          : RequestEvent::Kind::wrong;
    return tell(sent.event);
  }

  Result<> ended(RequestEvent event, const Error& error) {
    event.kind = error.code == ErrorCode::operator_failed ? RequestEvent::Kind::refused
                 : error.code == ErrorCode::epoch_lost    ? RequestEvent::Kind::epoch_lost
                                                          : RequestEvent::Kind::lost;
    fmt::print(stderr, "opsplit: a request is {}: {}\n",
               event.kind == RequestEvent::Kind::refused ? "refused" : "lost", error.message);
    return tell(event);
  }

  Result<> tell(RequestEvent event) {
    event.at_ns = futex_.now_ns();
    return write_all(std::as_bytes(std::span(&event, 1)));
  }

  std::unique_ptr<ipc::Client> client_;
  std::uint32_t number_;
  std::size_t in_flight_;
  ipc::SystemFutex futex_;
  std::vector<std::vector<HostTensor>> inputs_;
  std::vector<std::string> answers_;  // digests of the right ones, by input
  std::deque<Sent> under_way_;
  std::uint64_t requests_ = 0;
};

}  // namespace

void add_chaos_client(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("chaos-client", "A client of `opsplit chaos`")->group("");
  auto deployment = std::make_shared<std::string>();
  auto number = std::make_shared<std::uint32_t>(0);
  auto in_flight = std::make_shared<std::size_t>(1);
  auto find = std::make_shared<bool>(false);
  command->add_option("deployment", *deployment)->required();
  command->add_option("number", *number)->required();
  command->add_option("in_flight", *in_flight);
  command->add_flag("--find-answers", *find);
  command->callback([&, deployment, number, in_flight, find] {
    invocation.run = [&invocation, deployment, number, in_flight, find]() -> Result<> {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::signal(SIGINT, SIG_IGN);  // the terminal's: it is `opsplit chaos` that ends us
      std::signal(SIGTERM, [](int) { told_to_end = 1; });
      OPSPLIT_TRY(ChaosClient client,
                  ChaosClient::connect(invocation, *deployment, *number, *in_flight));
      return *find ? client.find_answers() : client.run();
    };
  });
}

}  // namespace opsplit::daemon::cli
