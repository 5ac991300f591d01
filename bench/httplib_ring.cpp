// REST with cpp-httplib: one connection for all requests, served by the thread that accepted it. The
// library always sleeps until something comes.
#include <httplib.h>

#include <atomic>
#include <limits>
#include <optional>
#include <utility>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

constexpr const char* host = "127.0.0.1";
constexpr const char* path = "/tensor";
constexpr const char* content_type = "application/octet-stream";

class InThisThread final : public httplib::TaskQueue {
 public:
  // Nothing, or from 0.14 on whether there was room.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue({}));
  Enqueued enqueue(std::function<void()> task) override {
    task();
    return static_cast<Enqueued>(true);
  }
  void shutdown() override {}
};

std::span<const std::byte> bytes_of(const char* data, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

class HttplibLink {
 public:
  using Memory = Meeting;
  static Result<std::unique_ptr<HttplibLink>> open(const Setting& setting, int index,
                                                   Memory& memory) {
    return std::make_unique<HttplibLink>(setting, index, memory);
  }
  HttplibLink(const Setting& setting, int index, Memory& memory) : payload_(setting) {
    if (index == 1) {
      server_ = std::make_unique<httplib::Server>();
      server_->new_task_queue = [] { return new InThisThread; };
      server_->set_tcp_nodelay(true);
      server_->set_keep_alive_max_count(std::numeric_limits<std::size_t>::max());
      server_->set_keep_alive_timeout(3600);
      memory.listening(server_->bind_to_any_port(host));
    } else {
      client_ = std::make_unique<httplib::Client>(host, memory.wait());
      client_->set_tcp_nodelay(true);
      client_->set_keep_alive(true);
    }
  }

  // The answer comes with it.
  void send() {
    answer_.emplace(client_->Post(
        path, payload_.size(),
        [this](std::size_t offset, std::size_t length, httplib::DataSink& sink) {
          return write(offset, length, sink);
        },
        content_type));
    if (!*answer_) throw std::runtime_error(httplib::to_string(answer_->error()));
  }
  void receive() {
    const std::string& body = (*answer_)->body;
    payload_.take(bytes_of(body.data(), body.size()));
    payload_.end();
  }

  void serve(const std::atomic<std::uint32_t>& quit) {
    server_->Post(path, [&](const httplib::Request&, httplib::Response& response,
                            const httplib::ContentReader& read) {
      read([this](const char* data, std::size_t size) {
        payload_.take(bytes_of(data, size));
        return true;
      });
      payload_.end();
      response.set_content_provider(
          payload_.size(), content_type,
          [this](std::size_t offset, std::size_t length, httplib::DataSink& sink) {
            return write(offset, length, sink);
          });
      if (quit.load() != 0) server_->stop();
    });
    server_->listen_after_bind();
  }

 private:
  bool write(std::size_t offset, std::size_t length, httplib::DataSink& sink) {
    if (offset == 0) outgoing_ = payload_.next();
    const auto bytes = outgoing_.subspan(offset, length);
    return sink.write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  Payload payload_;
  std::span<const std::byte> outgoing_;
  std::unique_ptr<httplib::Server> server_;
  std::unique_ptr<httplib::Client> client_;
  std::optional<httplib::Result> answer_;
};

}  // namespace

std::string httplib_version() { return CPPHTTPLIB_VERSION; }

std::vector<Rival> httplib_rivals() {
  return {{"REST", "cpp-httplib, TCP", Waiting::sleeping, Ring<HttplibLink>::start}};
}

}  // namespace opsplit::bench
