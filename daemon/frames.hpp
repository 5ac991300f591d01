// Messages over a stream socket: how long, then the bytes. Both ends are programs of this build.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace opsplit::daemon {

// False: the other end is gone, or a time-out of the socket has passed (errno).
inline bool send_bytes(int fd, const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return true;
}

inline bool receive_bytes(int fd, char* bytes, std::size_t count) {
  while (count > 0) {
    errno = 0;
    const ssize_t received = ::recv(fd, bytes, count, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) return false;
    bytes += received;
    count -= static_cast<std::size_t>(received);
  }
  return true;
}

inline bool send_frame(int fd, std::string_view frame) {
  const std::uint64_t size = frame.size();
  return send_bytes(fd, reinterpret_cast<const char*>(&size), sizeof size) &&
         send_bytes(fd, frame.data(), frame.size());
}

// nullopt: as above, or a frame of more than `limit` bytes.
inline std::optional<std::string> receive_frame(int fd, std::size_t limit) {
  std::uint64_t size = 0;
  if (!receive_bytes(fd, reinterpret_cast<char*>(&size), sizeof size) || size > limit)
    return std::nullopt;
  std::string frame(size, '\0');
  if (!receive_bytes(fd, frame.data(), frame.size())) return std::nullopt;
  return frame;
}

}  // namespace opsplit::daemon
