#include "daemon/tensor_file.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include <cstring>
#include <fstream>
#include <random>

#include "tests/daemon/fuzz.hpp"
#include "tests/daemon/temporary_folder.hpp"

namespace opsplit::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class TensorFileTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, std::string_view content) {
    const auto path = folder_.path() / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  std::string problem(const std::string& name, std::string_view content) {
    const auto tensor = read_tensor(write(name, content));
    return tensor ? "none" : tensor.error().message;
  }

  TemporaryFolder folder_;
};

onnx::TensorProto proto(int data_type, std::initializer_list<std::int64_t> dims) {
  onnx::TensorProto message;
  message.set_data_type(data_type);
  for (const std::int64_t dim : dims) message.add_dims(dim);
  return message;
}

template <class T>
std::vector<T> values(const HostTensor& tensor) {
  std::vector<T> copy(tensor.bytes.size() / sizeof(T));
  std::memcpy(copy.data(), tensor.bytes.data(), copy.size() * sizeof(T));
  return copy;
}

TEST_F(TensorFileTest, NpyGoesThereAndBack) {
  const auto path = folder_.path() / "a.npy";
  const std::vector<float> elements{1, 2, 3, 4, 5, 6};
  ASSERT_TRUE(write_npy(path, {float32, {2, 3}}, std::as_bytes(std::span(elements))));
  const auto tensor = read_tensor(path);
  ASSERT_TRUE(tensor) << tensor.error().message;
  EXPECT_EQ(tensor->type, (TensorType{float32, {2, 3}}));
  EXPECT_EQ(values<float>(*tensor), elements);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(TensorFileTest, WritingFailsWithTheReasonAndLeavesNothing) {
  const std::byte element[4]{};
  EXPECT_THAT(write_npy(folder_.path() / "no" / "a.npy", {float32, {}}, element).error().message,
              AllOf(HasSubstr("no/a.npy"), HasSubstr("No such file or directory")));
  std::filesystem::create_directory(folder_.path() / "taken.npy");
  EXPECT_FALSE(write_npy(folder_.path() / "taken.npy", {float32, {}}, element));
  EXPECT_FALSE(write_npy(folder_.path() / "a.npy", {float32, {2}}, element));
  EXPECT_FALSE(write_npy(folder_.path() / "a.npy", {bfloat16, {2}}, element));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
  EXPECT_THAT(write_npy("/dev/full/x", {float32, {}}, element).error().message,
              HasSubstr("/dev/full"));
}

TEST_F(TensorFileTest, TensorProtoRawAndTyped) {
  auto raw = proto(onnx::TensorProto::FLOAT, {2});
  raw.set_raw_data("\0\0\x80\x3f\0\0\0\x40", 8);
  EXPECT_THAT(values<float>(*read_tensor(write("raw.pb", raw.SerializeAsString()))),
              ElementsAre(1, 2));
  auto typed = proto(onnx::TensorProto::FLOAT, {2});
  typed.add_float_data(3);
  typed.add_float_data(4);
  EXPECT_THAT(values<float>(*read_tensor(write("typed.pb", typed.SerializeAsString()))),
              ElementsAre(3, 4));
  auto narrow = proto(onnx::TensorProto::INT8, {2});
  narrow.add_int32_data(-5);
  narrow.add_int32_data(6);
  EXPECT_THAT(values<std::int8_t>(*read_tensor(write("narrow.pb", narrow.SerializeAsString()))),
              ElementsAre(-5, 6));
  auto longs = proto(onnx::TensorProto::INT64, {1});
  longs.add_int64_data(-7);
  EXPECT_THAT(values<std::int64_t>(*read_tensor(write("long.pb", longs.SerializeAsString()))),
              ElementsAre(-7));
}

TEST_F(TensorFileTest, TensorProtoExternalDataStaysInItsFolder) {
  write("weights", std::string_view("\0\0\x80\x3f", 4));
  auto message = proto(onnx::TensorProto::FLOAT, {1});
  message.set_data_location(onnx::TensorProto::EXTERNAL);
  auto* location = message.add_external_data();
  location->set_key("location");
  location->set_value("weights");
  EXPECT_THAT(values<float>(*read_tensor(write("a.pb", message.SerializeAsString()))),
              ElementsAre(1));
  for (const char* outside : {"/etc/passwd", "../weights", "", ".", "missing"}) {
    location->set_value(outside);
    EXPECT_THAT(problem("b.pb", message.SerializeAsString()), HasSubstr("b.pb")) << outside;
  }
}

TEST_F(TensorFileTest, ContentCountsBeforeTheEnding) {
  EXPECT_TRUE(read_tensor(write("a.pb", *npy_header({uint8, {0}}))));
  EXPECT_TRUE(read_tensor(write("a", *npy_header({uint8, {0}}))));
}

TEST_F(TensorFileTest, ErrorsBeginWithThePathAndAreOneLine) {
  const std::string path = (folder_.path() / "x.npy").string();
  EXPECT_THAT(problem("x.npy", "hello"),
              AllOf(StartsWith(path + ": "), HasSubstr("neither"), HasSubstr(".pb")));
  EXPECT_THAT(problem("x.npy", "\x93NUMPY"), StartsWith(path + ": is cut off"));
  EXPECT_THAT(read_tensor(folder_.path() / "none.npy").error().message, HasSubstr("none.npy"));
  EXPECT_EQ(read_tensor(folder_.path() / "none.npy").error().code, ErrorCode::not_found);
  EXPECT_THAT(read_tensor(folder_.path()).error().message, HasSubstr("not a plain file"));
  EXPECT_THAT(problem("x.pb", ""), HasSubstr("not an ONNX TensorProto"));
  EXPECT_THAT(problem("x.pb", "not a message at all"), HasSubstr("not an ONNX TensorProto"));
  EXPECT_THAT(problem("x.pb", proto(onnx::TensorProto::STRING, {}).SerializeAsString()),
              HasSubstr("element type 8"));
  auto short_one = proto(onnx::TensorProto::FLOAT, {std::int64_t{1} << 40, 1 << 20});
  EXPECT_NE(problem("x.pb", short_one.SerializeAsString()), "none");
  auto bools = proto(onnx::TensorProto::BOOL, {1});
  bools.set_raw_data("\x07", 1);
  EXPECT_THAT(problem("x.pb", bools.SerializeAsString()), HasSubstr("a bool that is 7"));
}

TEST_F(TensorFileTest, RandomDamageNeverLies) {
  auto message = proto(onnx::TensorProto::FLOAT, {2, 3});
  message.set_name("input");
  message.set_raw_data(std::string(24, 'x'));
  const std::string valid = message.SerializeAsString();
  std::mt19937 random(5);
  for (int round = 0; round < 1000; ++round) {
    const auto tensor = read_tensor(write("damaged.pb", damaged(valid, random)));
    if (tensor) {
      EXPECT_EQ(byte_size(tensor->type), tensor->bytes.size());
    }
  }
}

TEST(OutputFilesTest, NamesAreSafeAndDistinct) {
  const auto files = [](std::vector<std::string> tensors) { return output_files(tensors); };
  EXPECT_THAT(
      *files({"softmax/probabilities:0", "../../etc/passwd", "..", "a\nb"}),
      ElementsAre("softmax_probabilities:0.npy", ".._.._etc_passwd.npy", "...npy", "a_b.npy"));
  EXPECT_THAT(files({"a/b", "a_b"}).error().message, HasSubstr("a_b.npy"));
  EXPECT_LE((*files({std::string(300, 'x')}))[0].size(), 255u);
  EXPECT_FALSE(files({std::string(300, 'x') + "1", std::string(300, 'x') + "2"}));
}

TEST(NamedFileTest, SplitsAtTheFirstEqualsSign) {
  EXPECT_EQ(parse_named_file("image=a.npy")->tensor, "image");
  EXPECT_EQ(parse_named_file("image=epoch=3/a.npy")->file, "epoch=3/a.npy");
  for (const char* text : {"", "image", "image=", "=a.npy"})
    EXPECT_THAT(parse_named_file(text).error().message, HasSubstr("NAME=FILE")) << text;
}

}  // namespace
}  // namespace opsplit::daemon
