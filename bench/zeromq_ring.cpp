// ZeroMQ: a PAIR over ipc://, messages that refer to the payload where it lies.
#include <zmq.hpp>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

struct Pair {
  Waiting waiting;
  Meeting meeting = {};
};

class ZeromqLink {
 public:
  using Memory = Pair;
  static Result<std::unique_ptr<ZeromqLink>> open(const Setting& setting, int index,
                                                  Memory& memory) {
    return std::make_unique<ZeromqLink>(setting, index, memory);
  }
  ZeromqLink(const Setting& setting, int index, Memory& memory)
      : spinning_(memory.waiting == Waiting::spinning), payload_(setting) {
    const std::string address = "ipc://@" + abstract_address();
    if (index == 1) {
      socket_.bind(address);
      memory.meeting.listening(1);
    } else {
      memory.meeting.wait();
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
    const auto flags = spinning_ ? zmq::recv_flags::dontwait : zmq::recv_flags::none;
    while (!socket_.recv(message_, flags)) {
    }
    payload_.take({message_.data<std::byte>(), message_.size()});
    payload_.end();
  }

 private:
  bool spinning_;
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
  std::vector<Rival> rivals;
  for (const Waiting waiting : {Waiting::spinning, Waiting::sleeping})
    rivals.push_back({"ZeroMQ", "PAIR, ipc", waiting, [=](const Setting& setting) {
                        return Ring<ZeromqLink>::start_with(setting, waiting);
                      }});
  return rivals;
}

}  // namespace opsplit::bench
