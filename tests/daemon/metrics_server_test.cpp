#include "daemon/metrics_server.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <thread>

namespace opsplit::daemon {
namespace {

using boost::asio::ip::tcp;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class MetricsServerTest : public testing::Test {
 protected:
  ~MetricsServerTest() override {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }
  void serve(const std::string& text) {
    server_.emplace(MetricsServer::listen(loop_, "127.0.0.1:0").value());
    server_->serve([text] { return text; });
    thread_ = std::thread([this] { loop_.run(); });
  }
  tcp::socket connect() {
    const std::string& address = server_->address();
    tcp::socket socket(own_);
    socket.connect({boost::asio::ip::make_address("127.0.0.1"),
                    static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))});
    return socket;
  }
  // Everything up to the end of the connection.
  static std::string read(tcp::socket& socket) {
    std::string answer;
    boost::system::error_code end;
    boost::asio::read(socket, boost::asio::dynamic_buffer(answer), end);
    return answer;
  }
  std::string ask(const std::string& request) {
    tcp::socket socket = connect();
    boost::system::error_code hung_up;  // it need not take all of it
    boost::asio::write(socket, boost::asio::buffer(request), hung_up);
    return read(socket);
  }

  boost::asio::io_context loop_, own_;
  std::optional<MetricsServer> server_;
  std::thread thread_;
};

TEST_F(MetricsServerTest, AnAddressIsAHostAndAPort) {
  for (const char* malformed :
       {"", "9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536",
        "127.0.0.1:-1", "127.0.0.1:9464s", "::1:9464", "[]:9464", "127.0.0.1:9464,8080"}) {
    const auto refused = MetricsServer::listen(loop_, malformed);
    ASSERT_FALSE(refused) << malformed;
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_input) << malformed;
    EXPECT_THAT(refused.error().message, HasSubstr("HOST:PORT"));
  }
}

TEST_F(MetricsServerTest, OneThatIsTakenIsRefused) {
  const auto first = MetricsServer::listen(loop_, "127.0.0.1:0");
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_THAT(first->address(), StartsWith("127.0.0.1:"));
  EXPECT_THAT(first->address(), Not(EndsWith(":0")));
  const auto second = MetricsServer::listen(loop_, first->address());
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr(first->address()));
  EXPECT_THAT(second.error().message, HasSubstr("in use"));
}

TEST_F(MetricsServerTest, AHostThatIsNotOursIsRefused) {
  const auto refused = MetricsServer::listen(loop_, "192.0.2.1:9464");  // of no machine: RFC 5737
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
}

TEST_F(MetricsServerTest, AnswersGetAndHeadOfMetricsOnly) {
  serve("opsplit_up 1\n");
  const std::string get = ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(get, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(get, HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(get, HasSubstr("\r\nContent-Length: 13\r\n"));
  EXPECT_THAT(get, EndsWith("\r\n\r\nopsplit_up 1\n"));
  EXPECT_THAT(ask("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.0 200 OK\r\n"));
  const std::string head = ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("\r\nContent-Length: 13\r\n"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
}

TEST_F(MetricsServerTest, WhatIsNoRequestGetsNoAnswer) {
  serve("");
  EXPECT_EQ(ask("\r\n\r\nhello\r\n\r\n"), "");
  EXPECT_EQ(ask("GET /metrics HTTP/1.1\r\nA: " + std::string(100'000, 'a')), "");
  EXPECT_EQ(ask("GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"), "");
  EXPECT_THAT(ask("GET /metrics HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.0 200 "));
}

TEST_F(MetricsServerTest, WhoSaysNothingKeepsNobodyWaitingUntilThereAreTooMany) {
  serve("opsplit_up 1\n");
  std::vector<tcp::socket> silent;
  while (silent.size() + 1 < MetricsServer::max_connections) silent.push_back(connect());
  EXPECT_THAT(ask("GET /metrics HTTP/1.0\r\n\r\n"), EndsWith("opsplit_up 1\n"));
  silent.push_back(connect());
  tcp::socket one_too_many = connect();
  EXPECT_EQ(read(one_too_many), "");
}

}  // namespace
}  // namespace opsplit::daemon
