// System tests run in a private /tmp and /dev/shm where the system allows it. Clients that they need
// as processes of their own are this program again: see load.hpp. `system_tests --private COMMAND...`
// runs a test that is another program there.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "tests/private_namespace.hpp"
#include "tests/system/load.hpp"

int main(int argc, char** argv) {
  const std::string_view role = argc > 2 ? argv[1] : "";
  if (role == "--helper") return opsplit::test::run_helper({argv + 2, argv + argc});
  if (role == "--private") {
    opsplit::test::enter_private_namespace();
    ::execv(argv[2], argv + 2);
    std::perror(argv[2]);
    return 127;
  }
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) opsplit::test::enter_private_namespace();
  return RUN_ALL_TESTS();
}
