#include "ipc/message_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace opsplit::ipc {
namespace {

constexpr std::size_t header_bytes = 4;

constexpr std::array error_names = {
    std::pair{ErrorCode::invalid_input, "invalid_input"},
    std::pair{ErrorCode::unsupported, "unsupported"},
    std::pair{ErrorCode::not_found, "not_found"},
    std::pair{ErrorCode::already_exists, "already_exists"},
    std::pair{ErrorCode::refused, "refused"},
    std::pair{ErrorCode::limit_exceeded, "limit_exceeded"},
    std::pair{ErrorCode::unavailable, "unavailable"},
    std::pair{ErrorCode::operator_failed, "operator_failed"},
    std::pair{ErrorCode::epoch_lost, "epoch_lost"},
    std::pair{ErrorCode::timed_out, "timed_out"},
    std::pair{ErrorCode::system, "system"},
};

std::size_t read_length(const char* bytes) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < header_bytes; ++i)
    length |= std::size_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  return length;
}

// Looks over a text that may not even be JSON, before the parser allocates for it: a few bytes of
// text can make a value of many, and values nested too deep overflow the stack of whoever walks
// through them.
Result<> check_structure(std::string_view text) {
  std::size_t depth = 0;
  std::size_t values = 1;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (c == ',' || c == '[' || c == '{') ++values;
    if (depth > max_message_depth)
      return fail(ErrorCode::invalid_input, "message nested more than {} deep", max_message_depth);
    if (values > max_message_values)
      return fail(ErrorCode::invalid_input, "message of more than {} values", max_message_values);
  }
  return {};
}

Result<nlohmann::json> parse(std::string_view text) {
  OPSPLIT_CHECK(check_structure(text));
  auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return fail(ErrorCode::invalid_input, "message is not JSON");
  return json;
}

Result<std::string> encode(const nlohmann::json& message) {
  // A text that is not UTF-8 (a file name, say) must not make the sender throw.
  const auto text = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > max_message_bytes)
    return fail(ErrorCode::limit_exceeded, "message of {} bytes: at most {}", text.size(),
                max_message_bytes);
  std::string bytes;
  bytes.reserve(header_bytes + text.size());
  for (std::size_t i = 0; i < header_bytes; ++i)
    bytes.push_back(static_cast<char>(text.size() >> 8 * i & 255));
  return bytes + text;
}

// Waits for an event on a descriptor. Error timed_out once the deadline has passed.
Result<> wait_for(int fd, short events, Deadline deadline) {
  pollfd wait{fd, events, 0};
  while (true) {
    const int ready = ::poll(&wait, 1, poll_timeout(deadline));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll");
    if (Clock::now() >= deadline)
      return fail(ErrorCode::timed_out, "no answer within the time allowed");
  }
}

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof(address.sun_path))
    return fail(ErrorCode::limit_exceeded, "{}: a socket's path has at most {} characters",
                path.native(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path, path.c_str(), path.native().size());
  return address;
}

Result<FileDescriptor> new_socket() {
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "socket");
  return socket;
}

}  // namespace

// --- MessageSocket ---

MessageSocket::MessageSocket(FileDescriptor socket, PeerCredentials peer)
    : socket_(std::move(socket)), peer_(peer) {}

Result<MessageSocket> MessageSocket::adopt(FileDescriptor socket) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return fail_errno(errno, "fcntl");
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return fail_errno(errno, "SO_PEERCRED");
  return MessageSocket(std::move(socket),
                       PeerCredentials{credentials.pid, credentials.uid, credentials.gid});
}

Result<MessageSocket> MessageSocket::connect(const std::filesystem::path& path, Deadline deadline) {
  OPSPLIT_TRY(const sockaddr_un address, address_of(path));
  OPSPLIT_TRY(FileDescriptor socket, new_socket());
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
         0) {
    if (errno == EINTR) continue;
    if (errno == ENOENT || errno == ECONNREFUSED)
      return fail(ErrorCode::unavailable, "nobody listens at {}", path.native());
    // A full backlog: a Unix socket cannot be polled for room in it.
    if (errno != EAGAIN) return fail_errno(errno, "{}", path.native());
    if (Clock::now() >= deadline)
      return fail(ErrorCode::timed_out, "{}: no answer within the time allowed", path.native());
    ::poll(nullptr, 0, 1);
  }
  OPSPLIT_TRY(MessageSocket connected, adopt(std::move(socket)));
  if (connected.peer().uid != ::geteuid())
    return fail(ErrorCode::refused, "{} belongs to another user (uid {})", path.native(),
                connected.peer().uid);
  return connected;
}

Result<> MessageSocket::send(const nlohmann::json& message, Deadline deadline) {
  OPSPLIT_CHECK(queue(message));
  while (true) {
    OPSPLIT_CHECK(flush());
    if (!has_queued()) return {};
    OPSPLIT_CHECK(wait_for(fd(), POLLOUT, deadline));
  }
}

Result<nlohmann::json> MessageSocket::receive(Deadline deadline) {
  while (true) {
    OPSPLIT_TRY(auto message, try_receive());
    if (message) return std::move(*message);
    OPSPLIT_CHECK(wait_for(fd(), POLLIN, deadline));
  }
}

Result<nlohmann::json> MessageSocket::call(const nlohmann::json& request, Deadline deadline) {
  OPSPLIT_CHECK(send(request, deadline));
  return receive_reply(deadline);
}

Result<nlohmann::json> MessageSocket::receive_reply(Deadline deadline) {
  OPSPLIT_TRY(nlohmann::json reply, receive(deadline));
  if (!reply.is_object()) return fail(ErrorCode::invalid_input, "a reply that is no object");
  const auto found = reply.find("error");
  if (found == reply.end()) return reply;
  Error error{ErrorCode::system, "an error that the peer does not explain"};
  if (found->is_object()) {
    const auto code = found->find("code");
    const auto text = found->find("message");
    for (const auto& [value, name] : error_names)
      if (code != found->end() && *code == name) error.code = value;
    if (text != found->end() && text->is_string()) error.message = text->get<std::string>();
  }
  return tl::unexpected(std::move(error));
}

Result<> MessageSocket::queue(const nlohmann::json& message) {
  OPSPLIT_TRY(const std::string bytes, encode(message));
  if (out_.size() - sent_ > 2 * max_message_bytes)
    return fail(ErrorCode::limit_exceeded, "the peer does not read what it is sent");
  out_.erase(0, std::exchange(sent_, 0));
  out_ += bytes;
  return {};
}

Result<> MessageSocket::flush() {
  while (has_queued()) {
    const ssize_t count =
        ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    if (count < 0 && (errno == EPIPE || errno == ECONNRESET))
      return fail(ErrorCode::unavailable, "the peer has closed the connection");
    if (count < 0) return fail_errno(errno, "send");
    sent_ += static_cast<std::size_t>(count);
  }
  out_.clear();
  sent_ = 0;
  return {};
}

Result<std::optional<nlohmann::json>> MessageSocket::try_receive() {
  while (true) {
    OPSPLIT_TRY(auto message, take_message());
    if (message) return message;
    OPSPLIT_TRY(const bool more, fill());
    if (!more) return std::nullopt;
  }
}

Result<std::optional<nlohmann::json>> MessageSocket::take_message() {
  if (in_.size() < header_bytes) return std::nullopt;
  const std::size_t length = read_length(in_.data());
  if (length > max_message_bytes)
    return fail(ErrorCode::limit_exceeded, "message of {} bytes: at most {}", length,
                max_message_bytes);
  if (in_.size() < header_bytes + length) return std::nullopt;
  auto message = parse(std::string_view(in_).substr(header_bytes, length));
  in_.erase(0, header_bytes + length);
  if (in_.empty()) in_.shrink_to_fit();  // an idle connection keeps no memory
  OPSPLIT_CHECK(message);
  return std::move(*message);
}

Result<bool> MessageSocket::fill() {
  std::array<char, 16384> block;
  while (true) {
    const ssize_t count = ::recv(socket_.get(), block.data(), block.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (count < 0 && errno != ECONNRESET) return fail_errno(errno, "recv");
    if (count <= 0) return fail(ErrorCode::unavailable, "the peer has closed the connection");
    in_.append(block.data(), static_cast<std::size_t>(count));
    return true;
  }
}

// --- MessageListener ---

MessageListener::MessageListener(FileDescriptor lock, FileDescriptor socket,
                                 std::filesystem::path path)
    : lock_(std::move(lock)), socket_(std::move(socket)), path_(std::move(path)) {}

MessageListener& MessageListener::operator=(MessageListener&& other) noexcept {
  if (this != &other) {
    remove();
    lock_ = std::move(other.lock_);
    socket_ = std::move(other.socket_);
    path_ = std::move(other.path_);
  }
  return *this;
}

MessageListener::~MessageListener() { remove(); }

void MessageListener::remove() {
  if (!socket_) return;
  ::unlink(path_.c_str());
  ::unlink((path_.native() + ".lock").c_str());
}

Result<MessageListener> MessageListener::bind(const std::filesystem::path& path) {
  OPSPLIT_TRY(const sockaddr_un address, address_of(path));
  OPSPLIT_CHECK(make_private_folder(path.has_parent_path() ? path.parent_path() : "."));
  OPSPLIT_TRY(FileDescriptor lock, lock_exclusive(path.native() + ".lock"));
  // With the lock held only someone who knows nothing of it can still be listening.
  const auto probe = MessageSocket::connect(path, Deadline::min());
  struct stat info {};
  if (probe || probe.error().code != ErrorCode::unavailable ||
      (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)))
    return fail(ErrorCode::already_exists, "{} is in use", path.native());
  ::unlink(path.c_str());
  OPSPLIT_TRY(FileDescriptor socket, new_socket());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return fail_errno(errno, "{}", path.native());
  if (::chmod(path.c_str(), 0600) != 0 || ::listen(socket.get(), 64) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return fail_errno(error, "{}", path.native());
  }
  return MessageListener(std::move(lock), std::move(socket), path);
}

Result<std::optional<MessageSocket>> MessageListener::accept() {
  while (true) {
    FileDescriptor accepted(
        ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (!accepted && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
    if (!accepted) return fail_errno(errno, "{}: accept", path_.native());
    OPSPLIT_TRY(MessageSocket connection, MessageSocket::adopt(std::move(accepted)));
    if (connection.peer().uid != ::geteuid())
      return fail(ErrorCode::refused, "{}: process {} of uid {} was turned away", path_.native(),
                  connection.peer().pid, connection.peer().uid);
    return connection;
  }
}

nlohmann::json error_reply(const Error& error) {
  return {{"error", {{"code", error_name(error.code)}, {"message", error.message}}}};
}

std::string_view error_name(ErrorCode code) {
  for (const auto& [value, name] : error_names)
    if (value == code) return name;
  return "system";
}

}  // namespace opsplit::ipc
