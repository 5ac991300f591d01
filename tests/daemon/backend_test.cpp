#include "daemon/backend.hpp"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/daemon/temporary_folder.hpp"

namespace opsplit::daemon {
namespace {

using testing::HasSubstr;

TEST(Backend, HasAName) {
  for (const Backend backend : {Backend::native, Backend::attach, Backend::onnxruntime,
                                Backend::pytorch, Backend::tensorflow})
    EXPECT_EQ(backend_from_string(to_string(backend)), backend);
  EXPECT_FALSE(backend_from_string("tensorrt"));
  EXPECT_EQ(backend_names(), "native, attach, onnxruntime, pytorch or tensorflow");
}

TEST(Backend, ItsProgramIsFoundBesideOpsplitdOrTheErrorSaysWhatToInstall) {
  const TemporaryFolder folder;
  EXPECT_EQ(find_program(Backend::native, false, "/opt/bin"), "/opt/bin/opsplit-operator");
  EXPECT_THAT(find_program(Backend::onnxruntime, false, folder.path()).error().message,
              HasSubstr("pip install"));
  const auto program = folder.path() / "opsplit-operator-onnxruntime";
  std::ofstream(program) << "#!/bin/sh\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  EXPECT_EQ(find_program(Backend::onnxruntime, false, folder.path()), program);
  EXPECT_THAT(find_program(Backend::tensorflow, false, folder.path()).error().message,
              HasSubstr("there is no opsplit-operator-tensorflow beside opsplitd"));
}

TEST(Backend, OnAGpuTheNativeProgramIsAnotherOne) {
  const TemporaryFolder folder;
  EXPECT_THAT(find_program(Backend::native, true, folder.path()).error().message,
              HasSubstr("there is no opsplit-operator-cuda beside opsplitd"));
  const auto program = folder.path() / "opsplit-operator-cuda";
  std::ofstream(program) << "#!/bin/sh\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  EXPECT_EQ(find_program(Backend::native, true, folder.path()), program);
}

TEST(Backend, OnAGpuPyTorchsProgramIsTheSame) {
  const TemporaryFolder folder;
  EXPECT_TRUE(runs_on_gpu(Backend::pytorch));
  EXPECT_FALSE(runs_on_gpu(Backend::tensorflow) || runs_on_gpu(Backend::onnxruntime));
  EXPECT_THAT(find_program(Backend::pytorch, true, folder.path()).error().message,
              HasSubstr("there is no opsplit-operator-pytorch beside opsplitd"));
}

}  // namespace
}  // namespace opsplit::daemon
