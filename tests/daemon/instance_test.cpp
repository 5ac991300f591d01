#include "daemon/instance.hpp"

#include <gtest/gtest.h>

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using State = Instance::State;

constexpr RestartPolicy policy{.max_deaths = 3, .window = 10s, .first_pause = 20ms};
const Deadline start = Deadline() + 1h;

Instance ready_instance() {
  Instance instance(policy);
  instance.launched();
  instance.became_ready();
  return instance;
}

TEST(Instance, StartsAndBecomesReady) {
  Instance instance(policy);
  instance.launched();
  EXPECT_EQ(instance.state(), State::starting);
  instance.became_ready();
  EXPECT_EQ(instance.state(), State::ready);
  EXPECT_EQ(instance.restarts(), 0);
}

TEST(Instance, ADeathIsFollowedByARestartAtOnceThenAfterAPauseThatDoubles) {
  Instance instance({.max_deaths = 4, .window = 10s, .first_pause = 20ms});
  instance.launched();
  EXPECT_EQ(instance.died(start), start);
  EXPECT_EQ(instance.state(), State::backing_off);
  instance.launched();
  EXPECT_EQ(instance.state(), State::starting);
  EXPECT_EQ(instance.died(start + 1s), start + 1s + 20ms);
  EXPECT_EQ(instance.died(start + 2s), start + 2s + 40ms);
  EXPECT_EQ(instance.restarts(), 3);
}

TEST(Instance, TooManyDeathsWithinTheWindowEndInFailed) {
  Instance instance = ready_instance();
  EXPECT_TRUE(instance.died(start));
  EXPECT_TRUE(instance.died(start + 5s));
  EXPECT_FALSE(instance.died(start + 10s));
  EXPECT_EQ(instance.state(), State::failed);
  EXPECT_EQ(instance.restarts(), 2);
}

TEST(Instance, DeathsBeforeTheWindowAreForgotten) {
  Instance instance = ready_instance();
  for (int death = 0; death < 100; ++death)
    EXPECT_EQ(instance.died(start + death * 11s), start + death * 11s) << death;
  EXPECT_EQ(instance.state(), State::backing_off);
  EXPECT_EQ(instance.restarts(), 100);
}

TEST(Instance, ThePauseStaysBoundedWhateverThePolicyAllows) {
  Instance instance({.max_deaths = 1000, .window = 1h, .first_pause = 20ms});
  for (int death = 0; death < 500; ++death) {
    const auto restart_at = instance.died(start);
    ASSERT_TRUE(restart_at);
    EXPECT_LE(*restart_at, start + 20ms * 1024);
  }
}

TEST(Instance, ADeathAfterItWasToldToStopIsTheEnd) {
  Instance instance = ready_instance();
  instance.told_to_stop();
  EXPECT_EQ(instance.state(), State::stopping);
  EXPECT_FALSE(instance.died(start));
  EXPECT_EQ(instance.state(), State::gone);
  EXPECT_EQ(instance.restarts(), 0);
}

TEST(Instance, OneThatIsDeadAlreadyIsGoneWhenToldToStop) {
  Instance backing_off = ready_instance();
  EXPECT_TRUE(backing_off.died(start));
  backing_off.told_to_stop();
  EXPECT_EQ(backing_off.state(), State::gone);

  Instance failed({.max_deaths = 1});
  EXPECT_FALSE(failed.died(start));
  EXPECT_EQ(failed.state(), State::failed);
  failed.told_to_stop();
  EXPECT_EQ(failed.state(), State::gone);
}

TEST(Instance, EveryStateHasAName) {
  EXPECT_EQ(to_string(State::starting), "starting");
  EXPECT_EQ(to_string(State::ready), "ready");
  EXPECT_EQ(to_string(State::backing_off), "backing off");
  EXPECT_EQ(to_string(State::failed), "failed");
  EXPECT_EQ(to_string(State::stopping), "stopping");
  EXPECT_EQ(to_string(State::gone), "gone");
}

}  // namespace
}  // namespace opsplit::daemon
