#include "daemon/metrics_server.hpp"

#include <fcntl.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <chrono>

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using boost::asio::ip::tcp;
using ErrorOf = boost::system::error_code;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr auto time_limit = 5s;  // for a request to come, and for its answer to go

struct Address {
  std::string host;  // without brackets
  std::uint16_t port = 0;
};

Result<Address> parse(const std::string& text) {
  const auto colon = text.rfind(':');
  Address address{text.substr(0, std::min(colon, text.size()))};
  const char* const end = text.data() + text.size();
  const char* const port = colon == std::string::npos ? end : text.data() + colon + 1;
  const auto [rest, error] = std::from_chars(port, end, address.port);
  if (address.host.starts_with('[') && address.host.ends_with(']'))
    address.host = address.host.substr(1, address.host.size() - 2);
  else if (address.host.find(':') != std::string::npos)
    address.host.clear();
  if (address.host.empty() || error != std::errc{} || rest != end)
    return fail(ErrorCode::invalid_input, "--metrics {}: must be HOST:PORT, e.g. 127.0.0.1:9464",
                text);
  return address;
}

// asio does not: a process that we start would hold the port, or the connection, for longer than we.
void close_on_exec(int fd) { ::fcntl(fd, F_SETFD, FD_CLOEXEC); }

http::response<http::string_body> answer(const http::request<http::empty_body>& request,
                                         const std::function<std::string()>& text) {
  http::response<http::string_body> response(http::status::ok, request.version());
  response.keep_alive(false);
  response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
  const std::string target(request.target());
  const bool head = request.method() == http::verb::head;
  if (target.substr(0, target.find('?')) != "/metrics") {
    response.result(http::status::not_found);
    response.body() = "there is /metrics\n";
  } else if (request.method() != http::verb::get && !head) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET, HEAD");
  } else {
    response.body() = text();
  }
  response.prepare_payload();
  if (head) response.body().clear();  // its length stays
  return response;
}

// Lives as long as something of it is under way.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, std::shared_ptr<std::function<std::string()>> text)
      : stream_(std::move(socket)), text_(std::move(text)) {}

  void run() {
    stream_.expires_after(time_limit);
    http::async_read(stream_, buffer_, request_,
                     [self = shared_from_this()](const ErrorOf& error, std::size_t) {
                       if (!error) self->reply();
                     });
  }

 private:
  void reply() {
    response_ = answer(request_.get(), *text_);
    stream_.expires_after(time_limit);
    http::async_write(stream_, response_, [self = shared_from_this()](const ErrorOf&, std::size_t) {
      ErrorOf ignored;
      self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  beast::tcp_stream stream_;
  std::shared_ptr<std::function<std::string()>> text_;
  beast::flat_buffer buffer_;
  http::request_parser<http::empty_body> request_;  // 8 KiB of header at most
  http::response<http::string_body> response_;
};

}  // namespace

struct MetricsServer::Listener : std::enable_shared_from_this<Listener> {
  explicit Listener(boost::asio::io_context& io) : acceptor(io), pause(io) {}

  void accept() {
    acceptor.async_accept([self = shared_from_this()](const ErrorOf& error, tcp::socket socket) {
      if (!self->acceptor.is_open()) return;
      if (error) return self->accept_later();
      close_on_exec(socket.native_handle());
      self->start(std::move(socket));
      self->accept();
    });
  }

  // Out of descriptors, say.
  void accept_later() {
    pause.expires_after(100ms);
    pause.async_wait([self = shared_from_this()](const ErrorOf& error) {
      if (!error) self->accept();
    });
  }

  void start(tcp::socket socket) {
    std::erase_if(connections, [](const auto& connection) { return connection.expired(); });
    if (connections.size() >= max_connections) return;  // closed
    const auto connection = std::make_shared<Connection>(std::move(socket), text);
    connections.push_back(connection);
    connection->run();
  }

  tcp::acceptor acceptor;
  boost::asio::steady_timer pause;
  std::shared_ptr<std::function<std::string()>> text;
  std::vector<std::weak_ptr<Connection>> connections;
};

Result<MetricsServer> MetricsServer::listen(boost::asio::io_context& io,
                                            const std::string& address) {
  OPSPLIT_TRY(const Address parsed, parse(address));
  ErrorOf error;
  const auto found = tcp::resolver(io).resolve(parsed.host, std::to_string(parsed.port),
                                               tcp::resolver::passive, error);
  if (error || found.empty())
    return fail(ErrorCode::invalid_input, "--metrics {}: {}", address, error.message());
  const tcp::endpoint endpoint = *found.begin();
  auto listener = std::make_shared<Listener>(io);
  tcp::acceptor& acceptor = listener->acceptor;
  acceptor.open(endpoint.protocol(), error);
  if (!error) close_on_exec(acceptor.native_handle());
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error)
    return fail(ErrorCode::unavailable, "--metrics {}: cannot listen there: {}", address,
                error.message());
  return MetricsServer(std::move(listener),
                       address.substr(0, address.rfind(':') + 1) +
                           std::to_string(acceptor.local_endpoint(error).port()));
}

MetricsServer::MetricsServer(std::shared_ptr<Listener> listener, std::string address)
    : listener_(std::move(listener)), address_(std::move(address)) {}

MetricsServer::~MetricsServer() {
  if (!listener_) return;
  ErrorOf ignored;
  listener_->acceptor.close(ignored);
  listener_->pause.cancel();
}

void MetricsServer::serve(std::function<std::string()> text) {
  listener_->text = std::make_shared<std::function<std::string()>>(std::move(text));
  listener_->accept();
}

}  // namespace opsplit::daemon
