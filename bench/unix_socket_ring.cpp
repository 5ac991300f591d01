// A Unix stream socket: one call sends all of it from where it lies, one receives it to where it
// stays.
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

constexpr int buffer_bytes = 8 << 20;  // a sender need not wait for the receiver

struct Sockets {
  explicit Sockets(Waiting waits) : waiting(waits) {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    for (const int end : ends)
      // Beyond what the system allows everybody, where we may.
      if (::setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof buffer_bytes) != 0)
        ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
  }
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;
  ~Sockets() {
    for (const int end : ends) ::close(end);
  }

  Waiting waiting;
  std::array<int, 2> ends;
};

class UnixSocketLink {
 public:
  using Memory = Sockets;
  static Result<std::unique_ptr<UnixSocketLink>> open(const Setting& setting, int index,
                                                      Memory& memory) {
    return std::make_unique<UnixSocketLink>(setting, index, memory);
  }
  UnixSocketLink(const Setting& setting, int index, const Memory& memory)
      : socket_(memory.ends[static_cast<std::size_t>(index)]),
        flags_(memory.waiting == Waiting::spinning ? MSG_DONTWAIT : MSG_WAITALL),
        payload_(setting),
        received_(setting.payload) {}

  void send() {
    auto rest = payload_.next();
    while (!rest.empty())
      rest = rest.subspan(moved(::send(socket_, rest.data(), rest.size(), flags_ | MSG_NOSIGNAL)));
  }
  void receive() {
    std::span<std::byte> rest = received_;
    while (!rest.empty())
      rest = rest.subspan(moved(::recv(socket_, rest.data(), rest.size(), flags_)));
    payload_.take(received_);
    payload_.end();
  }

 private:
  static std::size_t moved(ssize_t bytes) {
    if (bytes > 0) return static_cast<std::size_t>(bytes);
    if (bytes == 0) throw std::runtime_error("the socket is closed");
    if (errno != EAGAIN && errno != EINTR)
      throw std::system_error(errno, std::generic_category(), "Unix socket");
    return 0;
  }

  int socket_;
  int flags_;
  Payload payload_;
  std::vector<std::byte> received_;
};

}  // namespace

std::vector<Rival> unix_socket_rivals() {
  std::vector<Rival> rivals;
  for (const Waiting waiting : {Waiting::spinning, Waiting::sleeping})
    rivals.push_back({"Unix socket", "stream", waiting, [=](const Setting& setting) {
                        return Ring<UnixSocketLink>::start_with(setting, waiting);
                      }});
  return rivals;
}

}  // namespace opsplit::bench
