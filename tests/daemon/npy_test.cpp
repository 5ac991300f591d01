#include "daemon/npy.hpp"

#include <gmock/gmock.h>

#include <random>

#include "tests/daemon/fuzz.hpp"

namespace opsplit::daemon {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A file of version 1 with this header, as it stands, and so many zero bytes behind it.
std::string file_with(std::string_view header, std::size_t content, char version = 1) {
  std::string file = "\x93NUMPY";
  file += {version, '\0', static_cast<char>(header.size() & 0xff),
           static_cast<char>(header.size() >> 8)};
  if (version > 1) file += {'\0', '\0'};
  return file + std::string(header) + std::string(content, '\0');
}

Result<HostTensor> parse(std::string_view file) {
  return parse_npy(std::as_bytes(std::span(file)));
}

std::string problem(std::string_view file) {
  const auto tensor = parse(file);
  return tensor ? "none" : tensor.error().message;
}

std::string problem_with(std::string_view header, std::size_t content = 0) {
  return problem(file_with(header, content));
}

TEST(NpyTest, HeaderIsWhatNumpyWrites) {
  // numpy.save() of numpy 1.24
  std::string expected("\x93NUMPY\x01\x00v\x00", 10);
  expected += "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
  expected.resize(127, ' ');
  expected += '\n';
  EXPECT_EQ(npy_header({float32, {3, 4}}), expected);
  EXPECT_THAT(*npy_header({uint8, {5}}), HasSubstr("'|u1', 'fortran_order': False, 'shape': (5,)"));
  EXPECT_THAT(*npy_header({float64, {}}), HasSubstr("'<f8', 'fortran_order': False, 'shape': ()"));
  EXPECT_THAT(npy_header({bfloat16, {}}).error().message, HasSubstr("no element type bfloat16"));
}

TEST(NpyTest, EveryTypeGoesThereAndBack) {
  for (const DType dtype :
       {float32, float64, float16, int8, int16, int32, int64, uint8, uint16, uint32, uint64, bool8})
    for (const Shape& shape :
         {Shape{}, Shape{0}, Shape{7}, Shape{2, 3}, Shape{1, 2, 3, 1, 1, 1, 2, 1}}) {
      const TensorType type{dtype, shape};
      const std::string header = *npy_header(type);
      EXPECT_EQ(header.size() % 64, 0u);
      const auto tensor = parse(header + std::string(*byte_size(type), '\1'));
      ASSERT_TRUE(tensor) << tensor.error().message;
      EXPECT_EQ(tensor->type, type);
      EXPECT_EQ(tensor->bytes, std::vector<std::byte>(*byte_size(type), std::byte{1}));
    }
}

TEST(NpyTest, AllVersionsAndSpellingsOfTheHeader) {
  constexpr auto header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  for (const char version : {1, 2, 3})
    EXPECT_EQ(parse(file_with(header, 24, version))->type, (TensorType{float32, {2, 3}}));
  for (const char* other :
       {"{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"=f4\"}",
        " { 'shape' : ( 2 , 3 , ) , 'descr' : '<f4' , 'fortran_order' : False } \n"})
    EXPECT_EQ(parse(file_with(other, 24))->type, (TensorType{float32, {2, 3}})) << other;
}

TEST(NpyTest, WhatIsNotSupportedIsNamed) {
  EXPECT_THAT(problem_with("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24),
              HasSubstr("numpy.ascontiguousarray"));
  EXPECT_THAT(problem_with("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24),
              HasSubstr("big-endian"));
  for (const char* dtype : {"<c8", "<U4", "|O", "<M8[ns]", "<f16", "|V2", "f4", "", "<f4x", "|S3"})
    EXPECT_THAT(problem_with(fmt::format(
                    "{{'descr': '{}', 'fortran_order': False, 'shape': (2, 3), }}", dtype)),
                HasSubstr(fmt::format("element type '{}' is not supported", dtype)));
  EXPECT_THAT(problem_with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }"),
              HasSubstr("records"));
  EXPECT_THAT(problem(file_with("{}", 0, 4)), HasSubstr("version 4.0"));
  EXPECT_THAT(problem(file_with("{}", 0, 0)), HasSubstr("version 0.0"));
  EXPECT_THAT(
      problem_with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}"),
      HasSubstr("rank 9"));
}

TEST(NpyTest, DamagedHeaders) {
  for (const char* header :
       {"",
        "{",
        "{}",
        "[]",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0x3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [3]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': 1}",
        "{'descr': '<\\x664', 'fortran_order': False, 'shape': (3,)}",
        "{'descr: '<f4', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"})
    EXPECT_THAT(problem_with(header, 12), StartsWith("its header is damaged")) << header;
}

TEST(NpyTest, SizesThatDoNotFit) {
  EXPECT_THAT(problem_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", 11),
              HasSubstr("is cut off: float32 3 takes 12 bytes, the file has 11"));
  EXPECT_THAT(problem_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", 13),
              HasSubstr("too long"));
  EXPECT_THAT(problem_with("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, "
                           "4294967296, 4294967296)}"),
              HasSubstr("more elements"));
  EXPECT_THAT(problem_with("{'descr': '<f8', 'fortran_order': False, 'shape': "
                           "(4611686018427387904,)}"),
              HasSubstr("more bytes"));
  std::string long_header("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12);
  EXPECT_THAT(problem(long_header), HasSubstr("header of 4294967295 bytes"));
  EXPECT_THAT(problem(""), HasSubstr("not a .npy file"));
  EXPECT_THAT(problem("\x93NUMPZ\x01\x00v\x00"), HasSubstr("not a .npy file"));
}

TEST(NpyTest, BoolsAreZeroOrOne) {
  std::string file = *npy_header({bool8, {2}}) + "\x01\x02";
  EXPECT_THAT(problem(file), HasSubstr("a bool that is 2"));
}

TEST(NpyTest, EveryTruncationIsAnError) {
  const std::string file = *npy_header({float32, {2, 3}}) + std::string(24, 'x');
  for (std::size_t size = 0; size < file.size(); ++size)
    EXPECT_FALSE(parse(std::string_view(file).substr(0, size))) << size;
}

TEST(NpyTest, RandomDamageNeverLies) {
  const std::string file = *npy_header({float32, {2, 3}}) + std::string(24, 'x');
  std::mt19937 random(3);
  for (int round = 0; round < 50'000; ++round) {
    const std::string bad = damaged(file, random);
    const auto tensor = parse(bad);
    if (!tensor) {
      EXPECT_FALSE(tensor.error().message.empty());
      continue;
    }
    EXPECT_EQ(byte_size(tensor->type), tensor->bytes.size()) << bad;
  }
}

}  // namespace
}  // namespace opsplit::daemon
