#include "ipc/message_socket.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "tests/ipc/other_process.hpp"

namespace opsplit::ipc {
namespace {

using nlohmann::json;
using test::in_seconds;
using testing::HasSubstr;

// A connection of which one end is raw.
struct Pair {
  Pair() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    raw = FileDescriptor(ends[0]);
    socket = MessageSocket::adopt(FileDescriptor(ends[1])).value();
  }
  void write(std::string_view bytes) const {
    for (std::size_t sent = 0; sent < bytes.size();) {
      const auto count = ::send(raw.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count < 0) return;  // the other end has had enough
      sent += static_cast<std::size_t>(count);
    }
  }
  FileDescriptor raw;
  std::optional<MessageSocket> socket;
};

std::string framed(std::string_view text) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(text.size() >> 8 * i & 255));
  return bytes.append(text);
}

std::string nested(std::size_t depth, char open, char close) {
  return std::string(depth, open) + std::string(depth, close);
}

// What a server's event loop says to these bytes, sent from a thread.
Result<json> reception_of(const std::string& bytes) {
  Pair pair;
  std::thread writer([&pair, &bytes] {
    pair.write(bytes);
    ::shutdown(pair.raw.get(), SHUT_WR);
  });
  auto message = pair.socket->receive(in_seconds(10));
  pair.socket.reset();
  writer.join();
  return message;
}

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

// --- Messages ---

TEST(MessageSocket, CarriesMessagesInOrder) {
  Pair pair;
  auto other = MessageSocket::adopt(std::move(pair.raw));
  ASSERT_TRUE(other);
  const json first = {{"a", 1}, {"b", {1.5, nullptr, true, "text \u00e4 \"quoted\" [{"}}};
  const json second = json::array();
  ASSERT_TRUE(pair.socket->send(first, in_seconds(10)));
  ASSERT_TRUE(pair.socket->send(second, in_seconds(10)));
  EXPECT_EQ(other->receive(in_seconds(10)), first);
  EXPECT_EQ(other->receive(in_seconds(10)), second);
}

TEST(MessageSocket, CarriesTheLargestMessage) {
  Pair pair;
  auto other = MessageSocket::adopt(std::move(pair.raw));
  const json largest(std::string(max_message_bytes - 2, 'x'));
  std::thread sender([&] { EXPECT_TRUE(pair.socket->send(largest, in_seconds(10))); });
  const auto received = other->receive(in_seconds(10));
  sender.join();
  EXPECT_EQ(received, largest);
  const auto too_large = pair.socket->send(std::string(max_message_bytes - 1, 'x'), in_seconds(1));
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, ErrorCode::limit_exceeded);
}

TEST(MessageSocket, SendsTextThatIsNotUnicode) {
  Pair pair;
  auto other = MessageSocket::adopt(std::move(pair.raw));
  ASSERT_TRUE(pair.socket->send("name \xff\xfe", in_seconds(10)));
  EXPECT_TRUE(other->receive(in_seconds(10)));
}

TEST(MessageSocket, AssemblesMessagesByteByByte) {
  Pair pair;
  for (const char c : framed(R"({"n": 1})") + framed("2")) {
    pair.write({&c, 1});
    const auto message = pair.socket->try_receive();
    ASSERT_TRUE(message);
    if (c == '}') {
      EXPECT_EQ(*message, json({{"n", 1}}));
    } else if (c == '2') {
      EXPECT_EQ(*message, json(2));
    } else {
      EXPECT_FALSE(*message);
    }
  }
  pair.write(framed("3") + framed("4"));
  EXPECT_EQ(pair.socket->try_receive().value(), json(3));
  EXPECT_EQ(pair.socket->try_receive().value(), json(4));
  EXPECT_FALSE(pair.socket->try_receive().value());
}

TEST(MessageSocket, CallTurnsAnErrorReplyIntoAnError) {
  Pair pair;
  auto server = MessageSocket::adopt(std::move(pair.raw));
  ASSERT_TRUE(server->send(error_reply({ErrorCode::limit_exceeded, "too much"}), in_seconds(1)));
  ASSERT_TRUE(server->send({{"ok", true}}, in_seconds(1)));
  ASSERT_TRUE(server->send({{"error", 7}}, in_seconds(1)));
  ASSERT_TRUE(server->send(7, in_seconds(1)));
  const auto refused = pair.socket->call({{"op", "x"}}, in_seconds(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::limit_exceeded);
  EXPECT_EQ(refused.error().message, "too much");
  EXPECT_TRUE(pair.socket->call({{"op", "x"}}, in_seconds(1)));
  EXPECT_EQ(pair.socket->call({{"op", "x"}}, in_seconds(1)).error().code, ErrorCode::system);
  EXPECT_EQ(pair.socket->call({{"op", "x"}}, in_seconds(1)).error().code, ErrorCode::invalid_input);
}

TEST(MessageSocket, EveryErrorCodeHasAName) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::system); ++code) {
    Pair pair;
    auto server = MessageSocket::adopt(std::move(pair.raw));
    const auto expected = static_cast<ErrorCode>(code);
    ASSERT_TRUE(server->send(error_reply({expected, "x"}), in_seconds(1)));
    EXPECT_EQ(pair.socket->call(1, in_seconds(1)).error().code, expected);
  }
}

// --- Time and the other end ---

TEST(MessageSocket, WaitsUntilTheDeadline) {
  Pair pair;
  pair.write(framed("[1, 2]").substr(0, 7));
  const auto start = Clock::now();
  const auto message = pair.socket->receive(in_seconds(0.2));
  const auto waited = Clock::now() - start;
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().code, ErrorCode::timed_out);
  EXPECT_GE(waited, std::chrono::milliseconds(199));
  EXPECT_LT(waited, std::chrono::milliseconds(1000));
  EXPECT_EQ(pair.socket->receive(Deadline::min()).error().code, ErrorCode::timed_out);
  const json large(std::string(max_message_bytes - 2, 'x'));
  EXPECT_EQ(pair.socket->send(large, in_seconds(0.1)).error().code, ErrorCode::timed_out);
}

TEST(MessageSocket, ClosedPeerIsAnErrorAndNoSignal) {
  Pair pair;
  pair.raw.reset();
  EXPECT_EQ(pair.socket->send(1, in_seconds(1)).error().code, ErrorCode::unavailable);
  EXPECT_EQ(pair.socket->receive(in_seconds(1)).error().code, ErrorCode::unavailable);
  EXPECT_EQ(pair.socket->try_receive().error().code, ErrorCode::unavailable);
}

TEST(MessageSocket, QueuesForAPeerThatDoesNotReadOnlySoMuch) {
  Pair pair;
  const json megabyte(std::string(1u << 20, 'x'));
  int queued = 0;
  Result<> result;
  for (; queued < 100 && result; ++queued) {
    result = pair.socket->queue(megabyte);
    ASSERT_TRUE(pair.socket->flush());
  }
  EXPECT_TRUE(pair.socket->has_queued());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::limit_exceeded);
  EXPECT_LT(queued, 12);
}

TEST(MessageSocket, EventLoopSendsAsThePeerReads) {
  Pair pair;
  auto other = MessageSocket::adopt(std::move(pair.raw));
  const json large(std::string(3u << 20, 'x'));
  ASSERT_TRUE(pair.socket->queue(large));
  ASSERT_TRUE(pair.socket->flush());
  ASSERT_TRUE(pair.socket->has_queued());
  std::optional<json> received;
  while (!received) {
    received = other->try_receive().value();
    ASSERT_TRUE(pair.socket->flush());
  }
  EXPECT_FALSE(pair.socket->has_queued());
  EXPECT_EQ(*received, large);
}

// --- Hostile input ---

TEST(MessageSocket, BrokenInputIsAnError) {
  const auto code = [](const std::string& bytes) { return reception_of(bytes).error().code; };
  EXPECT_EQ(code(""), ErrorCode::unavailable);
  EXPECT_EQ(code("\x05"), ErrorCode::unavailable);
  EXPECT_EQ(code(framed("[1, 2]").substr(0, 8)), ErrorCode::unavailable);
  EXPECT_EQ(code("\xff\xff\xff\xff"), ErrorCode::limit_exceeded);
  EXPECT_EQ(code(std::string("\x01\x00\x40\x00", 4)), ErrorCode::limit_exceeded);  // 4 MiB + 1
  for (const std::string text : {"", "nonsense", "[1, 2", "{\"a\": }", "\"\\ud800\"", "1e999999",
                                 "[1] [2]", "\xff", "nul", "]", "}{"})
    EXPECT_EQ(code(framed(text)), ErrorCode::invalid_input) << text;
  EXPECT_EQ(code(framed(std::string(3, '\0'))), ErrorCode::invalid_input);
}

TEST(MessageSocket, DeepNestingIsAnError) {
  EXPECT_TRUE(reception_of(framed(nested(max_message_depth, '[', ']'))));
  for (const std::size_t depth : {max_message_depth + 1, std::size_t{2'000'000}}) {
    const auto message = reception_of(framed(nested(depth, '[', ']')));
    ASSERT_FALSE(message);
    EXPECT_THAT(message.error().message, HasSubstr("nested"));
  }
  EXPECT_FALSE(reception_of(framed(std::string(4'000'000, '{'))));
  // In a text brackets mean nothing; an escaped quote does not end it.
  EXPECT_TRUE(reception_of(framed("\"\\\"" + std::string(100, '[') + "\"")));
}

TEST(MessageSocket, ManySmallValuesAreAnErrorAndTakeNoMemory) {
  std::string text = "[";
  while (text.size() < max_message_bytes - 4) text += "{},";
  text += "0]";
  const auto before = resident_bytes();
  EXPECT_FALSE(reception_of(framed(text)));
  EXPECT_LT(resident_bytes(), before + (32u << 20));
}

TEST(MessageSocket, LengthAloneTakesNoMemory) {
  Pair pair;
  pair.write(std::string("\x00\x00\x40\x00", 4));
  const auto before = resident_bytes();
  EXPECT_FALSE(pair.socket->try_receive().value());
  EXPECT_LT(resident_bytes(), before + (1u << 20));
}

TEST(MessageSocket, NoiseNeverBreaksIt) {
  std::mt19937 random(1);
  const std::string_view alphabet = "[]{},:\"\\0123truefalsn\xc3\xa4\xff ";
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 64, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    Pair pair;
    pair.write(framed(text));
    static_cast<void>(pair.socket->try_receive());
    pair.write(text);
    static_cast<void>(pair.socket->try_receive());
  }
}

// --- Listener ---

struct MessageListenerTest : testing::Test {
  MessageListenerTest() : folder(std::filesystem::temp_directory_path() / "opsplit.message_test") {
    std::filesystem::remove_all(folder);
  }
  ~MessageListenerTest() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
  std::filesystem::path path = folder / "socket";
};

mode_t mode_of(const std::filesystem::path& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_mode & 0777;
}

TEST_F(MessageListenerTest, AcceptsThisUserAndSaysWhoItIs) {
  auto listener = MessageListener::bind(path);
  ASSERT_TRUE(listener) << listener.error().message;
  EXPECT_EQ(mode_of(folder), 0700u);
  EXPECT_EQ(mode_of(path), 0600u);
  EXPECT_FALSE(listener->accept().value());
  auto client = MessageSocket::connect(path, in_seconds(10));
  ASSERT_TRUE(client);
  EXPECT_EQ(client->peer().pid, ::getpid());
  auto server = listener->accept().value();
  ASSERT_TRUE(server);
  EXPECT_EQ(server->peer().pid, ::getpid());
  EXPECT_EQ(server->peer().uid, ::geteuid());
  ASSERT_TRUE(client->send("hello", in_seconds(10)));
  EXPECT_EQ(server->receive(in_seconds(10)), json("hello"));
}

TEST_F(MessageListenerTest, LeavesNothing) {
  { const auto listener = MessageListener::bind(path); }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  EXPECT_EQ(MessageSocket::connect(path, in_seconds(1)).error().code, ErrorCode::unavailable);
}

TEST_F(MessageListenerTest, LiveSocketIsRefusedByName) {
  const auto listener = MessageListener::bind(path);
  const auto second = MessageListener::bind(path);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
  EXPECT_TRUE(MessageSocket::connect(path, in_seconds(1)));
}

TEST_F(MessageListenerTest, DeadSocketIsReplaced) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto listener = MessageListener::bind(path);
    ::_exit(listener ? 0 : 1);  // no destructor runs, as after a SIGKILL
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_TRUE(MessageListener::bind(path));
}

TEST_F(MessageListenerTest, OtherFilesAndOpenFoldersAreLeftAlone) {
  std::filesystem::create_directory(folder);
  ::chmod(folder.c_str(), 0755);
  const auto open = MessageListener::bind(path);
  ASSERT_FALSE(open);
  EXPECT_THAT(open.error().message, HasSubstr("0700"));
  ::chmod(folder.c_str(), 0700);
  std::ofstream(path) << "precious";
  EXPECT_FALSE(MessageListener::bind(path));
  EXPECT_EQ(std::filesystem::file_size(path), 8u);
  EXPECT_FALSE(MessageListener::bind(folder / std::string(200, 'x')));
}

TEST_F(MessageListenerTest, OtherUsersAreTurnedAway) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  auto listener = MessageListener::bind(path);
  ASSERT_TRUE(listener);
  ::chmod(folder.c_str(), 0755);
  ::chmod(path.c_str(), 0666);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
    const auto socket = MessageSocket::connect(path, in_seconds(5));
    ::_exit(!socket && socket.error().code == ErrorCode::refused ? 0 : 1);
  }
  pollfd wait{listener->fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 5000), 1);
  const auto accepted = listener->accept();
  ASSERT_FALSE(accepted);
  EXPECT_EQ(accepted.error().code, ErrorCode::refused);
  EXPECT_THAT(accepted.error().message, HasSubstr("uid 65534"));
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(MessageListenerTest, ManyClientsAtOnce) {
  auto listener = MessageListener::bind(path);
  std::vector<std::thread> clients;
  std::atomic<int> answered{0};
  for (int i = 0; i < 100; ++i)
    clients.emplace_back([this, i, &answered] {
      auto socket = MessageSocket::connect(path, in_seconds(10));
      if (!socket) return;
      const auto reply = socket->call({{"n", i}}, in_seconds(10));
      if (reply && (*reply)["n"] == i) ++answered;
    });
  for (int served = 0; served < 100;) {
    pollfd wait{listener->fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, 10000), 1);
    while (auto client = listener->accept().value()) {
      const auto request = client->receive(in_seconds(10));
      ASSERT_TRUE(request);
      ASSERT_TRUE(client->send(*request, in_seconds(10)));
      ++served;
    }
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(answered, 100);
}

}  // namespace
}  // namespace opsplit::ipc
