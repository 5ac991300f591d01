#include "graph/onnx_tensor.hpp"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include "graph/onnx_types.hpp"
#include "tests/graph/model_builder.hpp"

namespace opsplit::graph {
namespace {

using onnx::TensorProto;
using testing::ElementsAre;
using testing::HasSubstr;

TensorProto tensor(DType dtype, const Ints& dims) {
  TensorProto proto;
  proto.set_data_type(dtype_to_onnx(dtype));
  for (const auto dim : dims) proto.add_dims(dim);
  return proto;
}

Result<Constant> read(const TensorProto& proto) {
  ExternalData external("/nowhere");
  return constant_from_onnx(proto, external);
}

TEST(OnnxTensor, ReadsRawData) {
  TensorProto proto = tensor(int16, {2});
  proto.set_raw_data(std::string("\x01\x00\xff\xff", 4));
  const Constant constant = value_of(read(proto));
  EXPECT_EQ(constant.type, (TensorType{int16, {2}}));
  EXPECT_THAT(constant.as<std::int16_t>(), ElementsAre(1, -1));
}

TEST(OnnxTensor, ReadsTheTypedFieldOfEachType) {
  TensorProto floats = tensor(float32, {2});
  floats.add_float_data(1.5F);
  floats.add_float_data(-2);
  EXPECT_THAT(value_of(read(floats)).as<float>(), ElementsAre(1.5F, -2));

  TensorProto doubles = tensor(float64, {1});
  doubles.add_double_data(1e300);
  EXPECT_THAT(value_of(read(doubles)).as<double>(), ElementsAre(1e300));

  TensorProto longs = tensor(int64, {1});
  longs.add_int64_data(INT64_MIN);
  EXPECT_THAT(value_of(read(longs)).as<std::int64_t>(), ElementsAre(INT64_MIN));

  TensorProto unsigned32 = tensor(uint32, {1});
  unsigned32.add_uint64_data(UINT32_MAX);
  EXPECT_THAT(value_of(read(unsigned32)).as<std::uint32_t>(), ElementsAre(UINT32_MAX));

  TensorProto unsigned64 = tensor(uint64, {1});
  unsigned64.add_uint64_data(UINT64_MAX);
  EXPECT_THAT(value_of(read(unsigned64)).as<std::uint64_t>(), ElementsAre(UINT64_MAX));

  for (const DType dtype : {int8, uint8, bool8, int16, uint16, float16, bfloat16, int32}) {
    TensorProto small = tensor(dtype, {2});
    small.add_int32_data(1);
    small.add_int32_data(0);
    const Constant constant = value_of(read(small));
    EXPECT_EQ(constant.bytes.size(), 2 * dtype.bytes()) << to_string(dtype);
    EXPECT_EQ(constant.bytes[0], std::byte{1}) << to_string(dtype);
    EXPECT_EQ(constant.bytes[dtype.bytes()], std::byte{0}) << to_string(dtype);
  }
}

TEST(OnnxTensor, RefusesTooFewAndTooManyElements) {
  TensorProto raw = tensor(float32, {2, 2});
  raw.set_raw_data(std::string(12, '\0'));
  EXPECT_EQ(error_of(read(raw)), "holds 12 bytes, float32 2x2 needs 16");
  TensorProto typed = tensor(float32, {1});
  typed.add_float_data(1);
  typed.add_float_data(2);
  EXPECT_EQ(error_of(read(typed)), "holds 2 elements, float32 1 needs 1");
}

TEST(OnnxTensor, RefusesShapesThatOverflow) {
  EXPECT_THAT(error_of(read(tensor(float32, {1 << 30, 1 << 30, 1 << 30}))), HasSubstr("63 bits"));
  EXPECT_THAT(error_of(read(tensor(float32, {INT64_MAX}))), HasSubstr("63 bits"));
  EXPECT_THAT(error_of(read(tensor(float32, {-1}))), HasSubstr("negative"));
  EXPECT_THAT(error_of(read(tensor(float32, Ints(9, 1)))), HasSubstr("rank 9"));
}

TEST(OnnxTensor, RefusesOtherKinds) {
  TensorProto strings;
  strings.set_data_type(TensorProto::STRING);
  EXPECT_THAT(error_of(read(strings)), HasSubstr("element type 8"));
  TensorProto segment = tensor(float32, {1});
  segment.mutable_segment()->set_begin(0);
  EXPECT_THAT(error_of(read(segment)), HasSubstr("segments"));
}

TEST(OnnxTensor, WritesWhatItReads) {
  const Constant constant = float_constant({2, 1}, {3, 4});
  TensorProto proto;
  constant_to_onnx(constant, proto);
  const Constant again = value_of(read(proto));
  EXPECT_EQ(again.type, constant.type);
  EXPECT_THAT(again.as<float>(), ElementsAre(3, 4));
}

}  // namespace
}  // namespace opsplit::graph
