// JSON messages over a Unix stream socket: a 4-byte little-endian length, then that many bytes of
// JSON text. Both ends belong to one user; nothing else is trusted: a message is at most 4 MiB,
// nested at most 64 deep and of at most 256 Ki values, memory is taken only as bytes arrive, and
// whatever breaks these rules ends in an Error and a closed connection. Never raises SIGPIPE.
//
// A MessageSocket serves a client (send, receive: wait until a deadline) or an event loop (queue,
// flush, try_receive: never wait). Not thread safe: one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::ipc {

inline constexpr std::size_t max_message_bytes = 4u << 20;
inline constexpr std::size_t max_message_depth = 64;
inline constexpr std::size_t max_message_values = 1u << 18;

// As the kernel says (SO_PEERCRED): of the process that connected, or that listened.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

class MessageSocket {
 public:
  // Error unavailable: nobody listens there; refused: a socket of another user.
  static Result<MessageSocket> connect(const std::filesystem::path& path, Deadline deadline);
  // A connected stream socket, made non-blocking.
  static Result<MessageSocket> adopt(FileDescriptor socket);

  // Errors: timed_out (the message may be half sent: give the connection up); unavailable (the
  // peer has closed it); limit_exceeded and invalid_input (a message that breaks the rules).
  Result<> send(const nlohmann::json& message, Deadline deadline);
  Result<nlohmann::json> receive(Deadline deadline);
  // As receive(); a reply that says "error" becomes that Error.
  Result<nlohmann::json> receive_reply(Deadline deadline);
  // Sends a request and returns its reply.
  Result<nlohmann::json> call(const nlohmann::json& request, Deadline deadline);

  // For an event loop. Appends to what is to be sent; limit_exceeded if the peer has left more
  // than 2 x max_message_bytes unread. Then call flush().
  Result<> queue(const nlohmann::json& message);
  // Sends what the kernel takes now.
  Result<> flush();
  // Poll for POLLOUT while this is true.
  [[nodiscard]] bool has_queued() const { return sent_ < out_.size(); }
  // The next whole message; nullopt: not here yet. Call until nullopt, then poll for POLLIN.
  Result<std::optional<nlohmann::json>> try_receive();

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const PeerCredentials& peer() const { return peer_; }

 private:
  MessageSocket(FileDescriptor socket, PeerCredentials peer);

  Result<std::optional<nlohmann::json>> take_message();
  Result<bool> fill();  // false: nothing more to read now

  FileDescriptor socket_;
  PeerCredentials peer_;
  std::string in_;
  std::string out_;
  std::size_t sent_ = 0;  // bytes of out_ that the kernel has taken
};

class MessageListener {
 public:
  // Listens at `path`. Its folder is made if missing; it must belong to this user and be closed to
  // all others (0700). A socket file that nobody answers is replaced; a live one is refused by
  // name. Holds PATH.lock meanwhile.
  static Result<MessageListener> bind(const std::filesystem::path& path);
  MessageListener(MessageListener&&) noexcept = default;
  MessageListener& operator=(MessageListener&& other) noexcept;
  ~MessageListener();  // removes the socket file and the lock

  // nullopt: nobody waits. Error refused: a peer of another user, whose connection was closed; go
  // on. Error system (no descriptors left, say): pause before the next try, it is still waiting.
  Result<std::optional<MessageSocket>> accept();
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  MessageListener(FileDescriptor lock, FileDescriptor socket, std::filesystem::path path);
  void remove();

  FileDescriptor lock_;
  FileDescriptor socket_;
  std::filesystem::path path_;
};

// Replies: {"ok": true, ...} or {"error": {"code": "limit_exceeded", "message": "..."}}.
nlohmann::json error_reply(const Error& error);
std::string_view error_name(ErrorCode code);

}  // namespace opsplit::ipc
