// RabbitMQ: each member consumes a queue of its own (transient, without acknowledgements) and
// publishes to the next one's over the default exchange. Bodies are read frame by frame, where the
// client library has them. Always sleeping: between the two is the broker, which would only lose the
// cores that spinning clients take.
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <fstream>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

namespace fs = std::filesystem;

// Debian's; /usr/sbin has a wrapper for root and the user rabbitmq only.
constexpr const char* server_program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
constexpr const char* server_versions = "/usr/lib/rabbitmq/lib";
constexpr const char* host = "127.0.0.1";
constexpr int frame_bytes = 128 << 10;  // RabbitMQ's own; larger ones were not faster
constexpr auto start_limit = std::chrono::seconds(60);

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int free_port() {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket.get(), generic, size) != 0 || ::getsockname(socket.get(), generic, &size) != 0)
    return 0;
  return ntohs(address.sin_port);
}

bool somebody_listens(int port) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// In a child process: becomes the program, which writes to `log` and finds `variables` set.
int become(std::vector<std::string> command, std::vector<std::string> variables,
           const fs::path& log) {
  std::vector<char*> argv, environment;
  for (std::string& word : command) argv.push_back(word.data());
  for (std::string& variable : variables) environment.push_back(variable.data());
  argv.push_back(nullptr);
  environment.push_back(nullptr);
  const int nothing = ::open("/dev/null", O_RDONLY);
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execve(argv[0], argv.data(), environment.data());
  std::perror(argv[0]);
  return 127;
}

// rabbitmq-server, and the epmd that it needs: with ports, names and files of their own, and both
// end with us. (Left to itself Erlang starts an epmd that nobody ever stops.)
class RabbitServer {
 public:
  static Result<std::unique_ptr<RabbitServer>> start(const fs::path& folder) {
    std::unique_ptr<RabbitServer> server(new RabbitServer(folder));
    const Deadline deadline = Clock::now() + start_limit;
    while (!somebody_listens(server->port_)) {
      if (server->server_.has_ended() || server->epmd_.has_ended() || Clock::now() > deadline)
        return fail(ErrorCode::unavailable, "{} does not start: {}", server_program,
                    last_line(folder / "output"));
      ::usleep(20'000);
    }
    return server;
  }
  RabbitServer(const RabbitServer&) = delete;
  RabbitServer& operator=(const RabbitServer&) = delete;
  // Nobody needs what an orderly shutdown would write down.
  ~RabbitServer() {
    ::kill(server_.pid(), SIGKILL);
    ::kill(epmd_.pid(), SIGKILL);
  }

  [[nodiscard]] int port() const { return port_; }

 private:
  explicit RabbitServer(const fs::path& folder)
      : port_(free_port()),
        epmd_port_(free_port()),
        epmd_(-1, SIGKILL,
              [&] {
                return become(
                    {"/usr/bin/epmd", "-port", std::to_string(epmd_port_), "-address", host}, {},
                    folder / "output");
              }),
        server_(-1, SIGKILL,
                [&] { return become({server_program}, settings(folder), folder / "output"); }) {}

  [[nodiscard]] std::vector<std::string> settings(const fs::path& folder) const {
    std::ofstream(folder / "rabbitmq.conf") << fmt::format(
        "listeners.tcp.1 = {}:{}\n"
        "tcp_listen_options.nodelay = true\n"
        "disk_free_limit.absolute = 1MB\n"
        "log.console = true\n"
        "log.console.level = error\n"
        "log.file = false\n",
        host, port_);
    std::ofstream(folder / "plugins") << "[].\n";
    const std::string in = folder.string();
    return {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
            "HOME=" + in,  // the cookie
            fmt::format("ERL_EPMD_PORT={}", epmd_port_),
            fmt::format("RABBITMQ_DIST_PORT={}", free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
            fmt::format("RABBITMQ_NODENAME=opsplit{}@localhost", ::getppid()),
            "RABBITMQ_CONF_ENV_FILE=/dev/null",  // not the machine's
            "RABBITMQ_CONFIG_FILE=" + in + "/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE=" + in + "/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE=" + in + "/plugins",
            "RABBITMQ_MNESIA_BASE=" + in + "/data", "RABBITMQ_LOG_BASE=" + in + "/log",
            "RABBITMQ_PID_FILE=" + in + "/pid",
            // The script then becomes Erlang, instead of watching over it.
            "RUNNING_UNDER_SYSTEMD=1"};
  }

  static std::string last_line(const fs::path& log) {
    std::ifstream file(log);
    std::string last = "it says nothing";
    for (std::string line; std::getline(file, line);)
      if (line.find_first_not_of(" \t") != std::string::npos) last = line;
    return last;
  }

  int port_, epmd_port_;
  Process epmd_, server_;
};

struct Queues {
  int port;
  int ring;  // names are not used again: the last ring's queues end only after their connections
};

class RabbitLink {
 public:
  using Memory = Queues;
  static Result<std::unique_ptr<RabbitLink>> open(const Setting& setting, int index,
                                                  Memory& memory) {
    return std::make_unique<RabbitLink>(setting, index, memory);
  }
  RabbitLink(const Setting& setting, int index, const Memory& memory)
      : payload_(setting), next_(name(memory, (index + 1) % setting.processes)) {
    amqp_socket_t* socket = amqp_tcp_socket_new(connection_);
    check(amqp_socket_open(socket, host, memory.port));
    check(
        amqp_login(connection_, "/", 0, frame_bytes, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"));
    amqp_channel_open(connection_, channel);
    check(amqp_get_rpc_reply(connection_));
    const std::string own = name(memory, index);
    const amqp_bytes_t queue = bytes_of(own);
    amqp_queue_declare(connection_, channel, queue, false, false, true, true, amqp_empty_table);
    check(amqp_get_rpc_reply(connection_));
    amqp_basic_consume(connection_, channel, queue, amqp_empty_bytes, false, true, true,
                       amqp_empty_table);
    check(amqp_get_rpc_reply(connection_));
  }
  RabbitLink(const RabbitLink&) = delete;
  RabbitLink& operator=(const RabbitLink&) = delete;
  ~RabbitLink() { amqp_destroy_connection(connection_); }

  void send() {
    const auto bytes = payload_.next();
    const amqp_bytes_t body = {bytes.size(), const_cast<std::byte*>(bytes.data())};
    amqp_basic_properties_t properties{};
    properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties.delivery_mode = AMQP_DELIVERY_NONPERSISTENT;
    check(amqp_basic_publish(connection_, channel, amqp_empty_bytes, bytes_of(next_), false, false,
                             &properties, body));
  }
  void receive() {
    amqp_maybe_release_buffers(connection_);
    amqp_frame_t frame = next_frame();
    if (frame.frame_type != AMQP_FRAME_METHOD ||
        frame.payload.method.id != AMQP_BASIC_DELIVER_METHOD)
      throw std::runtime_error("RabbitMQ sends something else than a message");
    frame = next_frame();
    for (std::uint64_t rest = frame.payload.properties.body_size; rest > 0;) {
      frame = next_frame();
      const amqp_bytes_t body = frame.payload.body_fragment;
      payload_.take({static_cast<const std::byte*>(body.bytes), body.len});
      rest -= body.len;
    }
    payload_.end();
  }

 private:
  static constexpr amqp_channel_t channel = 1;

  static std::string name(const Memory& memory, int index) {
    return fmt::format("ring{}.to{}", memory.ring, index);
  }
  static amqp_bytes_t bytes_of(const std::string& text) {
    return {text.size(), const_cast<char*>(text.data())};
  }
  static void check(int status) {
    if (status < 0) throw std::runtime_error(amqp_error_string2(status));
  }
  static void check(const amqp_rpc_reply_t& reply) {
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) check(reply.library_error);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) throw std::runtime_error("RabbitMQ refuses");
  }
  amqp_frame_t next_frame() {
    amqp_frame_t frame{};
    check(amqp_simple_wait_frame(connection_, &frame));
    return frame;
  }

  Payload payload_;
  std::string next_;
  amqp_connection_state_t connection_ = amqp_new_connection();
};

}  // namespace

std::string rabbitmq_version() {
  constexpr std::string_view prefix = "rabbitmq_server-";
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(server_versions, none))
    if (const std::string name = entry.path().filename(); name.starts_with(prefix))
      return name.substr(prefix.size());
  return "";
}

std::vector<Rival> rabbitmq_rivals(const fs::path& folder) {
  if (rabbitmq_version().empty()) return {};
  struct Shared {
    std::unique_ptr<RabbitServer> server;
    int rings = 0;
  };
  const auto shared = std::make_shared<Shared>();
  return {{"RabbitMQ", "transient, no ack", Waiting::sleeping,
           [=](const Setting& setting) -> Result<std::unique_ptr<Contender>> {
             if (!shared->server) {
               std::error_code found_by_the_server;
               fs::create_directories(folder, found_by_the_server);
               OPSPLIT_TRY(shared->server, RabbitServer::start(folder));
             }
             return Ring<RabbitLink>::start_with(setting, shared->server->port(), shared->rings++);
           }}};
}

}  // namespace opsplit::bench
