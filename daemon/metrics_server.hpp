// GET /metrics over HTTP, on the event loop's thread: what it tells is that thread's, and nobody else
// writes meanwhile. One request per connection, a few connections at a time, seconds for each.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/error.hpp"

namespace opsplit::daemon {

class MetricsServer {
 public:
  static constexpr std::size_t max_connections = 16;

  // Listens at HOST:PORT, an IPv6 HOST in []; port 0: any that is free. Errors: no such address, or it
  // is taken.
  static Result<MetricsServer> listen(boost::asio::io_context& io, const std::string& address);
  MetricsServer(MetricsServer&&) noexcept = default;
  MetricsServer& operator=(MetricsServer&&) = delete;
  ~MetricsServer();

  // Who connected before has waited. `text` is what /metrics says; it is called for each request, as
  // long as the loop runs.
  void serve(std::function<std::string()> text);
  // As it was given, with the port that was found.
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  struct Listener;
  MetricsServer(std::shared_ptr<Listener> listener, std::string address);

  std::shared_ptr<Listener> listener_;  // null: moved from
  std::string address_;
};

}  // namespace opsplit::daemon
