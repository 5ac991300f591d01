#include "ipc/session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/ipc/fixture.hpp"

namespace opsplit::ipc {
namespace {

using testing::HasSubstr;

Attachment example() {
  Attachment attachment;
  attachment.deployment = "digits";
  attachment.epoch = 3;
  attachment.depth = 2;
  attachment.participants = 16;
  attachment.launch = 5;
  attachment.op = 1;
  attachment.seat = 7;
  attachment.cores = {.cpus = {0, 2, 3}, .threads = 4, .worker = {.spin_ns = 10, .measure = false}};
  return attachment;
}

TEST(Attachment, SurvivesItsMessage) {
  const Attachment sent = example();
  const auto received = attachment_from_json(to_json(sent));
  ASSERT_TRUE(received) << received.error().message;
  EXPECT_EQ(to_json(*received), to_json(sent));
  EXPECT_EQ(received->cores.worker.spin_ns, 10u);
}

TEST(Attachment, WhatIsMissingOrOutOfRangeIsRefused) {
  const nlohmann::json good = to_json(example());
  for (const auto& [key, value] : good.items()) {
    nlohmann::json without = good;
    without.erase(key);
    EXPECT_FALSE(attachment_from_json(without)) << key;
    nlohmann::json wrong = good;
    wrong[key] = nlohmann::json::array();
    EXPECT_FALSE(attachment_from_json(wrong)) << key;
  }
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::uint64_t>>{
           {"launch", 0}, {"launch", max_launch_number + 1}, {"seat", seats_per_operator}}) {
    nlohmann::json wrong = good;
    wrong[key] = value;
    EXPECT_FALSE(attachment_from_json(wrong)) << key << ' ' << value;
  }
  EXPECT_FALSE(attachment_from_json("no object"));
}

TEST(Attachment, AClientHasNoCores) {
  Attachment client = example();
  client.op = -1;
  const nlohmann::json message = to_json(client);
  EXPECT_FALSE(message.contains("cores"));
  EXPECT_TRUE(attachment_from_json(message));
}

TEST(AssignedCores, SurviveTheirMessage) {
  const AssignedCores sent = example().cores;
  const auto received = assigned_cores_from_json(to_json(sent));
  ASSERT_TRUE(received) << received.error().message;
  EXPECT_EQ(received->cpus, sent.cpus);
  EXPECT_EQ(received->threads, 4);
  EXPECT_EQ(received->worker.spin_ns, 10u);
  EXPECT_FALSE(received->worker.measure);
}

TEST(AssignedCores, WhatIsMissingOrOutOfRangeIsRefused) {
  const nlohmann::json good = to_json(example().cores);
  for (const auto& [key, value] : good.items()) {
    nlohmann::json without = good;
    without.erase(key);
    EXPECT_FALSE(assigned_cores_from_json(without)) << key;
  }
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, nlohmann::json>>{{"threads", 0},
                                                           {"threads", -1},
                                                           {"threads", 1'000'000},
                                                           {"cpus", "0-x"},
                                                           {"cpus", ""}}) {
    nlohmann::json wrong = good;
    wrong[key] = value;
    EXPECT_FALSE(assigned_cores_from_json(wrong)) << key << ' ' << value;
  }
}

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    attachment.deployment = "session_test" + std::to_string(getpid());
    attachment.folder = folder_path(attachment.deployment, attachment.epoch);
    attachment.arena_bytes = 2 * plan.slot_bytes;
    std::filesystem::create_directory(attachment.folder);
    std::ofstream(attachment.folder + "/plan.json") << to_json(plan);
  }
  ~SessionTest() override { std::filesystem::remove_all(attachment.folder); }
  std::string refusal() {
    const auto session = Session::open(attachment, std::make_shared<SystemFutex>(), Clock::now());
    return session ? "" : session.error().message;
  }

  Plan plan = join_plan();
  Attachment attachment = example();
};

TEST_F(SessionTest, AnAnswerThatDoesNotGoWithThePlanIsRefused) {
  attachment.op = 2;  // the plan has two operators
  EXPECT_THAT(refusal(), HasSubstr("does not go with"));
  attachment.op = 1;
  --attachment.arena_bytes;
  EXPECT_THAT(refusal(), HasSubstr("does not go with"));
}

TEST_F(SessionTest, WithoutABoardItSaysWhichOneIsMissing) {
  EXPECT_THAT(refusal(), HasSubstr(board_name(attachment.deployment, attachment.epoch)));
}

TEST_F(SessionTest, ADamagedPlanIsRefusedByName) {
  std::ofstream(attachment.folder + "/plan.json") << "{";
  EXPECT_THAT(refusal(), HasSubstr("plan.json"));
  std::filesystem::remove(attachment.folder + "/plan.json");
  EXPECT_THAT(refusal(), HasSubstr("plan.json"));
}

}  // namespace
}  // namespace opsplit::ipc
