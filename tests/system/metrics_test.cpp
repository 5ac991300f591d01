// What Prometheus gets to see.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <map>
#include <sstream>

#include "tests/system/load.hpp"

namespace opsplit::test {
namespace {

using boost::asio::ip::tcp;
using testing::HasSubstr;
using testing::StartsWith;

class Metrics : public SystemTest {
 protected:
  void ask(std::uint32_t count) { find_answers("digits", count, folder() / "answers"); }
};

// Series and values.
using Scrape = std::map<std::string, double>;

std::string get(const std::string& path) {
  const std::string address = ps()["metrics"];
  const auto colon = address.rfind(':');
  boost::asio::io_context io;
  tcp::socket socket(io);
  socket.connect({boost::asio::ip::make_address(address.substr(0, colon)),
                  static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1)))});
  boost::asio::write(socket, boost::asio::buffer("GET " + path + " HTTP/1.0\r\n\r\n"));
  std::string answer;
  boost::system::error_code end;
  boost::asio::read(socket, boost::asio::dynamic_buffer(answer), end);
  return answer;
}

Scrape scrape() {
  const std::string answer = get("/metrics");
  EXPECT_THAT(answer.substr(0, 200), StartsWith("HTTP/1.0 200"));
  EXPECT_THAT(answer.substr(0, 200), HasSubstr("text/plain; version=0.0.4"));
  std::istringstream lines(answer.substr(answer.find("\r\n\r\n") + 4));
  Scrape result;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#') || !line.starts_with("opsplit_")) continue;
    const auto space = line.rfind(' ');
    EXPECT_TRUE(result.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << line;
  }
  return result;
}

std::string series(const std::string& name, const std::string& op) {
  return fmt::format("{}{{deployment=\"digits\",operator=\"{}\",replica=\"0\"}}", name, op);
}

bool only_grows(const std::string& name) {
  for (const char* part : {"_total{", "_count{", "_sum{", "_bucket{"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

void expect_grown(const Scrape& before, const Scrape& after) {
  for (const auto& [name, value] : before) {
    if (!only_grows(name)) continue;
    ASSERT_TRUE(after.contains(name)) << name;
    EXPECT_GE(after.at(name), value) << name;
  }
}

// Within one scrape: buckets in the order of their bounds do not fall, the last is the count.
void expect_cumulative(const Scrape& all) {
  std::map<std::string, std::map<double, double>> histograms;
  for (const auto& [name, value] : all) {
    const auto bucket = name.find("_bucket{"), le = name.find(",le=\"");
    if (bucket == std::string::npos) continue;
    ASSERT_NE(le, std::string::npos) << name;
    const std::string count =
        name.substr(0, bucket) + "_count" + name.substr(bucket + 7, le - bucket - 7) + "}";
    histograms[count][std::stod(name.substr(le + 5))] = value;  // understands +Inf
  }
  EXPECT_EQ(histograms.size(), 1u + 2 * 5);
  for (const auto& [count, buckets] : histograms) {
    double last = 0;
    for (const auto& [bound, value] : buckets) {
      EXPECT_GE(value, last) << count << " le " << bound;
      last = value;
    }
    EXPECT_EQ(last, all.at(count)) << count;
  }
}

TEST_F(Metrics, TheMetricsCountWhatWasDone) {
  constexpr std::uint32_t requests = 100;
  Process daemon({program("opsplitd"), "--metrics", "127.0.0.1:0", "--up", digits_model});
  ASSERT_TRUE(eventually([] {
    const json digits = ps().is_object() ? deployment("digits") : json();
    return !digits.is_null() && digits["phase"] == "ready";
  }));
  const Scrape idle = scrape();
  EXPECT_EQ(idle.at("opsplit_broker_up"), 1);
  EXPECT_EQ(idle.at("opsplit_requests_total{deployment=\"digits\"}"), 0);
  EXPECT_EQ(idle.at("opsplit_slots{deployment=\"digits\"}"), 8);

  ask(requests);
  // The last task is counted just after its answer.
  Scrape loaded;
  const std::map<std::string, double> tasks = {
      {"conv", 3}, {"relu", 4}, {"maxpool", 2}, {"gemm", 2}, {"softmax", 1}};
  EXPECT_TRUE(eventually([&] {
    loaded = scrape();
    return loaded.at(series("opsplit_operator_run_seconds_count", "softmax")) == requests;
  }));
  EXPECT_EQ(loaded.at("opsplit_requests_total{deployment=\"digits\"}"), requests);
  EXPECT_EQ(loaded.at("opsplit_request_seconds_count{deployment=\"digits\"}"), requests);
  EXPECT_GT(loaded.at("opsplit_request_seconds_sum{deployment=\"digits\"}"), 0);
  for (const auto& [op, count] : tasks) {
    EXPECT_EQ(loaded.at(series("opsplit_operator_up", op)), 1);
    EXPECT_EQ(loaded.at(series("opsplit_operator_tasks_total", op)), requests * count) << op;
    EXPECT_EQ(loaded.at(series("opsplit_operator_run_seconds_count", op)), requests * count) << op;
    EXPECT_EQ(loaded.at(series("opsplit_operator_wait_seconds_count", op)), requests * count) << op;
    EXPECT_GT(loaded.at(series("opsplit_operator_run_seconds_sum", op)), 0) << op;
    EXPECT_GT(loaded.at(series("opsplit_operator_resident_memory_bytes", op)), 1 << 20) << op;
    EXPECT_EQ(instance("digits", op)["tasks_done"], requests * count) << op;
  }
  expect_cumulative(loaded);
  expect_grown(idle, loaded);

  // Its successor goes on counting where it ended.
  const pid_t victim = instance("digits", "conv")["pid"];
  ::kill(victim, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const json conv = instance("digits", "conv");
    return conv["pid"] != victim && conv["state"] == "ready";
  }));
  ask(requests);
  const Scrape restarted = scrape();
  expect_cumulative(restarted);
  expect_grown(loaded, restarted);
  EXPECT_EQ(restarted.at(series("opsplit_operator_restarts_total", "conv")), 1);
  EXPECT_EQ(restarted.at(series("opsplit_operator_tasks_total", "conv")), 2 * requests * 3);

  daemon.signal(SIGTERM);
  EXPECT_EQ(daemon.wait(20s).status, 0);
}

TEST_F(Metrics, AnAddressForTheMetricsThatCannotBeIsOneLine) {
  Process first({program("opsplitd"), "--metrics", "127.0.0.1:0"});
  ASSERT_TRUE(eventually([] { return ps().is_object(); }));
  const std::string taken = ps()["metrics"];
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait(20s).status, 0);

  boost::asio::io_context io;
  const tcp::acceptor somebody(io, {boost::asio::ip::make_address("127.0.0.1"), 0});
  for (const std::string& address :
       {fmt::format("127.0.0.1:{}", somebody.local_endpoint().port()), std::string("9464")}) {
    const Outcome refused = Process({program("opsplitd"), "--metrics", address}).wait(10s);
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.err, StartsWith("opsplitd: --metrics " + address + ": "));
    EXPECT_EQ(std::ranges::count(refused.err, '\n'), 1) << refused.err;
  }
}

}  // namespace
}  // namespace opsplit::test
