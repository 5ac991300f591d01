#include "graph/external_data.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A folder with a model's folder in it, a secret outside, and every link that could lead there.
class ExternalDataTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(model_folder() / "sub");
    write(folder_.path() / "secret", 64);
    write(model_folder() / "weights", 64);
    write(model_folder() / "sub" / "weights", 64);
    write(model_folder() / "empty", 0);
    std::filesystem::create_symlink("../secret", model_folder() / "link");
    std::filesystem::create_symlink("weights", model_folder() / "inner_link");
    std::filesystem::create_directory_symlink("..", model_folder() / "up");
    ASSERT_EQ(::mkfifo((model_folder() / "fifo").c_str(), 0600), 0);
  }

  static void write(const std::filesystem::path& file, int bytes) {
    std::ofstream stream(file, std::ios::binary);
    for (int i = 0; i < bytes; ++i) stream.put(static_cast<char>(i));
  }

  std::filesystem::path model_folder() const { return folder_.path() / "model"; }

  // A model whose one weight, of 4 floats, lies there.
  Result<Graph> import(const std::string& location, const std::string& offset = "",
                       const std::string& length = "") {
    ModelBuilder model;
    model.input("x", {4}).output("y").node("Add", {"x", "w"}, {"y"});
    auto* tensor = model.proto().mutable_graph()->add_initializer();
    tensor->set_name("w");
    tensor->set_data_type(onnx::TensorProto::FLOAT);
    tensor->add_dims(4);
    tensor->set_data_location(onnx::TensorProto::EXTERNAL);
    const auto entry = [&](const char* key, const std::string& value) {
      if (value.empty()) return;
      auto* added = tensor->add_external_data();
      added->set_key(key);
      added->set_value(value);
    };
    entry("location", location);
    entry("offset", offset);
    entry("length", length);
    model.save(model_folder() / "model.onnx");
    return import_model(model_folder() / "model.onnx");
  }

  TempFolder folder_;
};

TEST_F(ExternalDataTest, FindsWeightsBesideTheModel) {
  for (const char* location :
       {"weights", "./weights", "sub/weights", "sub//weights", "sub/./weights"}) {
    const Graph graph = value_of(import(location, "16", "16"));
    const auto bytes = graph.value(graph.find("w")).constant->bytes;
    EXPECT_EQ(bytes.size(), 16U);
    EXPECT_EQ(bytes[0], std::byte{16}) << location;
  }
}

TEST_F(ExternalDataTest, ConstantsOutliveTheModelsFiles) {
  const Graph graph = value_of(import("weights"));
  std::filesystem::remove_all(model_folder());
  EXPECT_EQ(graph.value(graph.find("w")).constant->bytes[15], std::byte{15});
}

// Whoever overwrites a model while it is planned must not take opsplitd along.
TEST_F(ExternalDataTest, WeightsThatWereReadStayWhenTheirFileIsCutOff) {
  const Graph graph = value_of(import("weights"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(model_folder()))
    if (entry.is_regular_file() && !entry.is_symlink())
      std::filesystem::resize_file(entry.path(), 0);
  EXPECT_EQ(graph.value(graph.find("w")).constant->bytes[15], std::byte{15});
}

TEST_F(ExternalDataTest, CopiesWhatIsNotAlignedToItsElements) {
  const Graph graph = value_of(import("weights", "3"));
  const auto bytes = graph.value(graph.find("w")).constant->bytes;
  EXPECT_EQ(bytes[0], std::byte{3});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64, 0U);
}

TEST_F(ExternalDataTest, LeavesTheFolderByNoPath) {
  const std::string absolute = (folder_.path() / "secret").string();
  for (const std::string& location :
       {absolute, std::string("../secret"), std::string("sub/../../secret"), std::string("link"),
        std::string("up/secret"), std::string("inner_link"), std::string("sub/../weights"),
        std::string(".."), std::string("."), std::string("weights\0x", 9)}) {
    const auto graph = import(location);
    ASSERT_FALSE(graph) << location;
    EXPECT_EQ(graph.error().code, ErrorCode::refused) << graph.error().message;
    EXPECT_THAT(graph.error().message, HasSubstr("initializer 'w': external data"));
  }
}

TEST_F(ExternalDataTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(error_of(import("fifo")), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of(import("sub")), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of(import("missing")), HasSubstr("No such file"));
  EXPECT_THAT(error_of(import("weights/x")), HasSubstr("no folder"));
  EXPECT_THAT(error_of(import("")), HasSubstr("without a usable file name"));
}

TEST_F(ExternalDataTest, ChecksOffsetAndLength) {
  EXPECT_TRUE(import("weights", "48", "16"));
  EXPECT_THAT(error_of(import("weights", "49")), HasSubstr("beyond its end at 64"));
  EXPECT_THAT(error_of(import("empty")), HasSubstr("beyond its end at 0"));
  EXPECT_THAT(error_of(import("weights", "18446744073709551615")), HasSubstr("beyond its end"));
  EXPECT_THAT(error_of(import("weights", "18446744073709551616")),
              HasSubstr("offset is not a number"));
  EXPECT_THAT(error_of(import("weights", "-4")), HasSubstr("offset is not a number"));
  EXPECT_THAT(error_of(import("weights", "0", "15")), HasSubstr("length 15, float32 4 needs 16"));
}

}  // namespace
}  // namespace opsplit::graph
