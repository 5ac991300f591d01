// What comes over a control socket: the frames, and every message that is taken apart.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/plan.hpp"
#include "daemon/snapshot.hpp"
#include "ipc/message_socket.hpp"
#include "ipc/session.hpp"

using namespace opsplit;

namespace {

void take_apart(const nlohmann::json& message) {
  (void)ipc::attachment_from_json(message);
  (void)ipc::assigned_cores_from_json(message);
  (void)daemon::snapshot_of(message);
  if (const auto plan = plan_from_json(message)) (void)to_json(*plan);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
  const FileDescriptor peer(ends[0]);
  auto socket = ipc::MessageSocket::adopt(FileDescriptor(ends[1]));
  // Less than a socket takes at once.
  if (!socket || ::write(peer.get(), data, std::min<std::size_t>(size, 64 << 10)) < 0) std::abort();
  ::shutdown(peer.get(), SHUT_WR);
  while (true) {
    const auto message = socket->try_receive();
    if (!message || !*message) return 0;
    take_apart(**message);
  }
}
