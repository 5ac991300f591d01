// ZeroMQ: a PAIR over ipc://, messages that refer to the payload where it lies. Always sleeping: its
// I/O thread does, and would only lose the core that a spinning caller takes.
#include <zmq.hpp>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

class ZeromqLink {
 public:
  using Memory = Meeting;
  static Result<std::unique_ptr<ZeromqLink>> open(const Setting& setting, int index,
                                                  Memory& memory) {
    return std::make_unique<ZeromqLink>(setting, index, memory);
  }
  ZeromqLink(const Setting& setting, int index, Memory& memory) : payload_(setting) {
    const std::string address = "ipc://@" + abstract_address();
    if (index == 1) {
      socket_.bind(address);
      memory.listening(1);
    } else {
      memory.wait();
      socket_.connect(address);
    }
  }

  void send() {
    const auto bytes = payload_.next();
    zmq::message_t message(const_cast<std::byte*>(bytes.data()), bytes.size(),
                           [](void*, void*) {});  // nothing to free
    socket_.send(message, zmq::send_flags::none);
  }
  void receive() {
    while (!socket_.recv(message_)) {  // interrupted by a signal
    }
    payload_.take({message_.data<std::byte>(), message_.size()});
    payload_.end();
  }

 private:
  Payload payload_;
  zmq::context_t context_;
  zmq::socket_t socket_{context_, zmq::socket_type::pair};
  zmq::message_t message_;
};

}  // namespace

std::string zeromq_version() {
  const auto [major, minor, patch] = zmq::version();
  return fmt::format("{}.{}.{}", major, minor, patch);
}

std::vector<Rival> zeromq_rivals() {
  return {{"ZeroMQ", "PAIR, ipc", Waiting::sleeping, Ring<ZeromqLink>::start}};
}

}  // namespace opsplit::bench
