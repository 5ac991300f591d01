#include "ipc/message_server.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "tests/ipc/other_process.hpp"

namespace opsplit::ipc {
namespace {

using test::in_seconds;
using testing::HasSubstr;

TEST(MessageServer, MembersOfARequestAreOfTheirType) {
  const nlohmann::json request = {{"n", 7u}, {"negative", -1}, {"text", "a"}};
  EXPECT_EQ(number_in(request, "n").value(), 7u);
  EXPECT_EQ(text_in(request, "text").value(), "a");
  for (const auto* key : {"negative", "text", "none"}) {
    const auto number = number_in(request, key);
    ASSERT_FALSE(number) << key;
    EXPECT_THAT(number.error().message, HasSubstr(key));
  }
  EXPECT_FALSE(text_in(request, "n"));
  EXPECT_FALSE(text_in(request, "none"));
  EXPECT_FALSE(number_in(nlohmann::json::array({1}), "n"));
  EXPECT_EQ(arena_id_in({{"deployment", "digits"}, {"epoch", 3u}}).value(), (ArenaId{"digits", 3}));
  EXPECT_FALSE(arena_id_in({{"deployment", "digits"}}));
}

TEST(MessageServer, AnswersInOrderAndTellsErrors) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  auto asks = MessageSocket::adopt(FileDescriptor(ends[0])).value();
  auto answers = MessageSocket::adopt(FileDescriptor(ends[1])).value();
  const Serve serve = [](const nlohmann::json& request) -> Result<nlohmann::json> {
    OPSPLIT_TRY(const std::uint64_t n, number_in(request, "n"));
    return nlohmann::json{{"next", n + 1}};
  };
  for (const nlohmann::json& request :
       {nlohmann::json{{"n", 1}}, nlohmann::json(7), nlohmann::json{{"n", 2}}})
    ASSERT_TRUE(asks.send(request, in_seconds(10)));
  EXPECT_TRUE(answer_requests(answers, serve));
  EXPECT_EQ((*asks.receive_reply(in_seconds(10)))["next"], 2);
  EXPECT_EQ(asks.receive_reply(in_seconds(10)).error().code, ErrorCode::invalid_input);
  EXPECT_EQ((*asks.receive_reply(in_seconds(10)))["next"], 3);
  asks = MessageSocket::adopt(FileDescriptor(::dup(ends[1]))).value();  // hangs up
  EXPECT_FALSE(answer_requests(answers, serve));
}

}  // namespace
}  // namespace opsplit::ipc
