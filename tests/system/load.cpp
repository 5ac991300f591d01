#include "tests/system/load.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>
#include <set>

#include "ipc/client.hpp"

namespace opsplit::test {
namespace {

constexpr std::size_t pixels = 64;
constexpr std::size_t classes = 10;
using Answer = std::array<float, classes>;

constexpr auto slot_timeout = 30s;
constexpr auto answer_timeout = 30s;  // longer than this is silence

std::atomic<bool> stop{false};

// Set while it runs: a line each is too much to write.
void report_progress(std::uint64_t answered) {
  ::pwrite(STDERR_FILENO, &answered, sizeof answered, 0);
}

void fill(std::span<std::byte> place, std::uint32_t number) {
  std::mt19937 random(number);
  std::uniform_real_distribution<float> value(0, 1);
  std::array<float, pixels> image{};
  for (float& pixel : image) pixel = value(random);
  if (place.size() != sizeof image) throw std::runtime_error("not the digits network");
  std::memcpy(place.data(), image.data(), sizeof image);
}

Answer take(std::span<const std::byte> bytes) {
  Answer answer{};
  if (bytes.size() != sizeof answer) throw std::runtime_error("not the digits network's answer");
  std::memcpy(answer.data(), bytes.data(), sizeof answer);
  return answer;
}

template <class T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return *std::move(result);
}

void check(const Result<>& result) {
  if (!result) throw std::runtime_error(result.error().message);
}

std::unique_ptr<ipc::Client> connect(const std::string& deployment) {
  return value_of(ipc::Client::connect({socket_path().string(), deployment}));
}

// answers DEPLOYMENT COUNT FILE
int answers(const std::vector<std::string>& arguments) {
  const auto client = connect(arguments.at(1));
  std::ofstream file(arguments.at(3), std::ios::binary);
  std::set<Answer> different;
  const auto count = static_cast<std::uint32_t>(std::stoul(arguments.at(2)));
  for (std::uint32_t number = 0; number < count; ++number) {
    auto request = value_of(client->begin(slot_timeout));
    fill(request.input(0), number);
    check(request.submit());
    check(request.wait(answer_timeout));
    const Answer answer = take(value_of(request.output(0)).bytes);
    different.insert(answer);
    file.write(reinterpret_cast<const char*>(answer.data()), sizeof answer);
  }
  fmt::print("{}\n", different.size());
  return 0;
}

class LoadingClient {
 public:
  explicit LoadingClient(const json& options)
      : options_(options),
        client_(connect(options.at("deployment"))),
        random_(options.at("first").get<std::uint32_t>()),
        in_flight_(options.at("in_flight")) {
    std::ifstream file(options.at("answers").get<std::string>(), std::ios::binary);
    for (Answer answer; file.read(reinterpret_cast<char*>(&answer), sizeof answer);)
      answers_.push_back(answer);
    refill();
  }

  json run() {
    while (!to_send_.empty() || !flying_.empty()) {
      if (stop && options_.at("repeat")) to_send_.clear();
      while (!to_send_.empty() && flying_.size() < in_flight_) send();
      if (!flying_.empty()) take_one();
      if (to_send_.empty() && options_.at("repeat") && !stop) refill();
    }
    return {{"answered", answered_},       {"wrong", wrong_},   {"overtaken", overtaken_},
            {"epochs_lost", epochs_lost_}, {"failed", failed_}, {"error", error_}};
  }

 private:
  struct Flying {
    ipc::Request request;
    std::uint32_t number;
    std::uint64_t order;
  };

  void refill() {
    const std::uint32_t first = options_.at("first"), count = options_.at("count");
    for (std::uint32_t number = first; number < first + count; ++number) to_send_.push_back(number);
  }

  void send() {
    const std::uint32_t number = to_send_.front();
    to_send_.pop_front();
    auto request = client_->begin(slot_timeout);
    if (!request) return ended(number, request.error());
    fill(request->input(0), number);
    if (const auto sent = request->submit(); !sent) return ended(number, sent.error());
    flying_.push_back({std::move(*request), number, ++sent_});
  }

  void take_one() {
    const auto index = static_cast<std::ptrdiff_t>(random_() % flying_.size());
    Flying taken = std::move(flying_[static_cast<std::size_t>(index)]);
    flying_.erase(flying_.begin() + index);
    if (const auto answered = taken.request.wait(answer_timeout); !answered)
      return ended(taken.number, answered.error());
    const auto output = taken.request.output(0);
    if (!output) return ended(taken.number, output.error());
    wrong_ += take(output->bytes) == answers_.at(taken.number) ? 0 : 1;
    for (const Flying& other : flying_) overtaken_ += other.order < taken.order ? 1 : 0;
    report_progress(++answered_);
  }

  void ended(std::uint32_t number, const Error& error) {
    if (error.code == ErrorCode::epoch_lost) {
      ++epochs_lost_;
      to_send_.push_back(number);
      return;
    }
    ++failed_;
    error_ = error.message;
  }

  json options_;
  std::unique_ptr<ipc::Client> client_;
  std::mt19937 random_;
  std::size_t in_flight_;
  std::vector<Answer> answers_;
  std::deque<std::uint32_t> to_send_;
  std::vector<Flying> flying_;
  std::uint64_t sent_ = 0, answered_ = 0, wrong_ = 0, overtaken_ = 0, epochs_lost_ = 0, failed_ = 0;
  std::string error_;
};

// load OPTIONS
int load(const std::vector<std::string>& arguments) {
  std::signal(SIGTERM, [](int) { stop = true; });
  fmt::print("{}\n", LoadingClient(json::parse(arguments.at(1))).run().dump());
  return 0;
}

// hold DEPLOYMENT COUNT
int hold(const std::vector<std::string>& arguments) {
  const auto client = connect(arguments.at(1));
  std::vector<ipc::Request> requests;
  const auto count = static_cast<std::uint32_t>(std::stoul(arguments.at(2)));
  for (std::uint32_t number = 0; number < count; ++number) {
    requests.push_back(value_of(client->begin(slot_timeout)));
    fill(requests.back().input(0), number);
    check(requests.back().submit());
  }
  fmt::print("held\n");
  std::fflush(stdout);
  while (true) ::pause();
}

json to_json(const Load::Options& options) {
  return {{"deployment", options.deployment}, {"answers", options.answers.string()},
          {"first", options.first},           {"count", options.count},
          {"in_flight", options.in_flight},   {"repeat", options.repeat}};
}

}  // namespace

int run_helper(const std::vector<std::string>& arguments) try {
  if (arguments.at(0) == "answers") return answers(arguments);
  if (arguments.at(0) == "load") return load(arguments);
  if (arguments.at(0) == "hold") return hold(arguments);
  return 127;
} catch (const std::exception& error) {
  fmt::print("{}\n", error.what());
  return 1;
}

void find_answers(const std::string& deployment_name, std::uint32_t count,
                  const std::filesystem::path& file) {
  const Outcome outcome =
      start_helper({"answers", deployment_name, std::to_string(count), file}).wait();
  if (outcome.status != 0) throw std::runtime_error("find_answers: " + outcome.out);
  EXPECT_EQ(outcome.out, std::to_string(count) + "\n") << "answers that differ";
}

Load::Load(const Options& options)
    : process_(start_helper({"load", to_json(options).dump()})), repeats_(options.repeat) {}

std::uint64_t Load::answered() const {
  std::uint64_t count = 0;
  const std::string bytes = process_.err();
  if (bytes.size() >= sizeof count) std::memcpy(&count, bytes.data(), sizeof count);
  return count;
}

Report Load::finish() {
  // Only one that repeats has to be told, once it can hear it.
  if (repeats_) {
    eventually([&] { return answered() != 0 || process_.has_ended(); });
    process_.signal(SIGTERM);
  }
  const Outcome outcome = process_.wait();
  if (outcome.status != 0) throw std::runtime_error("a client ended badly: " + outcome.out);
  const json report = json::parse(outcome.out);
  return {report.at("answered"),    report.at("wrong"),  report.at("overtaken"),
          report.at("epochs_lost"), report.at("failed"), report.at("error")};
}

Report finish(std::vector<Load>& loads) {
  Report sum;
  for (Load& load : loads) {
    const Report one = load.finish();
    sum.answered += one.answered;
    sum.wrong += one.wrong;
    sum.overtaken += one.overtaken;
    sum.epochs_lost += one.epochs_lost;
    sum.failed += one.failed;
    if (!one.error.empty()) sum.error = one.error;
  }
  return sum;
}

Process hold_requests(const std::string& deployment_name, std::uint32_t count) {
  Process process = start_helper({"hold", deployment_name, std::to_string(count)});
  if (!eventually([&] { return process.out() == "held\n"; }))
    throw std::runtime_error("hold: " + process.out() + process.err());
  return process;
}

}  // namespace opsplit::test
