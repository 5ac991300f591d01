// All tests of ipc/ run in a private /tmp and /dev/shm where the system allows it. Tests that need
// a second process start this program again with the name of a helper: see other_process.hpp.
#include <gtest/gtest.h>

#include <string_view>

#include "tests/ipc/other_process.hpp"
#include "tests/private_namespace.hpp"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--helper")
    return opsplit::test::run_helper({argv + 2, argv + argc});
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) opsplit::test::enter_private_namespace();
  return RUN_ALL_TESTS();
}
