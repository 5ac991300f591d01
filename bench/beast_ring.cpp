// REST with Boost.Beast: one connection for all requests, headers made once, header and body sent by
// one call from where they lie, the body received to where it stays. A request carries the payload
// there, the response back: two hops.
#include <algorithm>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/version.hpp>
#include <limits>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;
using Body = http::span_body<const char>;

constexpr std::size_t first_read = 64 << 10;  // a small body comes with its header

struct Connection {
  Waiting waiting;
  bool tcp;
  Meeting meeting = {};
};

// Tries again what a socket that does not block could not do at once.
class PollingStream {
 public:
  explicit PollingStream(Socket& socket) : socket_(socket) {}
  template <class Buffers>
  std::size_t read_some(const Buffers& buffers, error_code& error) {
    std::size_t bytes = 0;
    do bytes = socket_.read_some(buffers, error);
    while (error == asio::error::would_block);
    return bytes;
  }
  template <class Buffers>
  std::size_t write_some(const Buffers& buffers, error_code& error) {
    std::size_t bytes = 0;
    do bytes = socket_.write_some(buffers, error);
    while (error == asio::error::would_block);
    return bytes;
  }
  template <class Buffers>
  std::size_t read_some(const Buffers& buffers) {
    return or_throw([&](error_code& error) { return read_some(buffers, error); });
  }
  template <class Buffers>
  std::size_t write_some(const Buffers& buffers) {
    return or_throw([&](error_code& error) { return write_some(buffers, error); });
  }
  auto get_executor() { return socket_.get_executor(); }

 private:
  template <class Call>
  static std::size_t or_throw(Call call) {
    error_code error;
    const std::size_t bytes = call(error);
    if (error) throw boost::system::system_error(error);
    return bytes;
  }
  Socket& socket_;
};

class BeastLink {
 public:
  using Memory = Connection;
  static Result<std::unique_ptr<BeastLink>> open(const Setting& setting, int index,
                                                 Memory& memory) {
    return std::make_unique<BeastLink>(setting, index, memory);
  }
  BeastLink(const Setting& setting, int index, Memory& memory)
      : serves_(index == 1), payload_(setting), received_(setting.payload) {
    if (memory.tcp) {
      const asio::ip::address_v4 loopback = asio::ip::address_v4::loopback();
      connect<asio::ip::tcp>(memory, [=](int port) {
        return asio::ip::tcp::endpoint(loopback, static_cast<unsigned short>(port));
      });
      socket_.set_option(asio::ip::tcp::no_delay(true));
    } else {
      connect<asio::local::stream_protocol>(memory, [](int) {
        return asio::local::stream_protocol::endpoint(std::string(1, '\0') + abstract_address());
      });
    }
    socket_.non_blocking(memory.waiting == Waiting::spinning);
    buffer_.reserve(first_read);
    request_.method(http::verb::post);
    request_.target("/tensor");
    request_.set(http::field::host, "localhost");
    for (http::fields* fields : {static_cast<http::fields*>(&request_.base()),
                                 static_cast<http::fields*>(&response_.base())}) {
      fields->set(http::field::content_type, "application/octet-stream");
      fields->set(http::field::content_length, std::to_string(setting.payload));
    }
  }

  void send() {
    if (serves_)
      send(response_);
    else
      send(request_);
  }
  void receive() {
    if (serves_)
      receive<true>();
    else
      receive<false>();
  }

 private:
  template <class Protocol, class EndpointOf>
  void connect(Memory& memory, EndpointOf endpoint_of) {
    if (serves_) {
      typename Protocol::acceptor acceptor(context_, endpoint_of(0));
      memory.meeting.listening(port_of(acceptor.local_endpoint()));
      socket_ = Socket(acceptor.accept());
    } else {
      typename Protocol::socket socket(context_);
      socket.connect(endpoint_of(memory.meeting.wait()));
      socket_ = Socket(std::move(socket));
    }
  }
  static int port_of(const asio::ip::tcp::endpoint& endpoint) { return endpoint.port(); }
  static int port_of(const asio::local::stream_protocol::endpoint&) { return 1; }

  template <class Message>
  void send(Message& message) {
    const auto bytes = payload_.next();
    message.body() = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    http::write(stream_, message);
  }

  template <bool is_request>
  void receive() {
    http::parser<is_request, http::empty_body> parser;
    parser.body_limit(std::numeric_limits<std::uint64_t>::max());
    http::read_header(stream_, buffer_, parser);
    const std::size_t length = parser.content_length().value_or(0);
    if (length != payload_.size()) throw std::runtime_error("a body of another size");
    // What came with the header is taken where it lies.
    const std::size_t here = std::min(length, buffer_.size());
    payload_.take({static_cast<const std::byte*>(buffer_.data().data()), here});
    buffer_.consume(here);
    const std::span<std::byte> rest = std::span(received_).subspan(here);
    asio::read(stream_, asio::buffer(rest.data(), rest.size()));
    payload_.take(rest);
    payload_.end();
  }

  bool serves_;
  Payload payload_;
  std::vector<std::byte> received_;
  asio::io_context context_;
  Socket socket_{context_};
  PollingStream stream_{socket_};
  boost::beast::flat_buffer buffer_;
  http::request<Body> request_;
  http::response<Body> response_;
};

}  // namespace

std::string beast_version() { return BOOST_LIB_VERSION; }

std::vector<Rival> beast_rivals() {
  std::vector<Rival> rivals;
  for (const bool tcp : {true, false})
    for (const Waiting waiting : {Waiting::spinning, Waiting::sleeping})
      rivals.push_back(
          {"REST", tcp ? "Beast, TCP" : "Beast, Unix socket", waiting, [=](const Setting& setting) {
             return Ring<BeastLink>::start_with(setting, waiting, tcp);
           }});
  return rivals;
}

}  // namespace opsplit::bench
