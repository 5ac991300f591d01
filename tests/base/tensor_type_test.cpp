#include "base/tensor_type.hpp"

#include <gmock/gmock.h>

#include <limits>
#include <vector>

namespace opsplit {
namespace {

constexpr std::int64_t huge = std::int64_t{1} << 40;

TEST(DTypeTest, NamesGoThereAndBack) {
  for (const DType dtype : {float32, float64, float16, bfloat16, int8, int16, int32, int64, uint8,
                            uint16, uint32, uint64, bool8})
    EXPECT_EQ(dtype_from_string(to_string(dtype)), dtype) << to_string(dtype);
  EXPECT_EQ(to_string(float32), "float32");
  EXPECT_EQ(to_string(bool8), "bool");
}

TEST(DTypeTest, UnknownOnesHaveNoNameButReadable) {
  EXPECT_EQ(dtype_from_string("float31"), std::nullopt);
  EXPECT_EQ(dtype_from_string(""), std::nullopt);
  EXPECT_EQ(to_string(DType{TypeCode::float_, 32, 4}), "2/32/4");
}

TEST(DTypeTest, Bytes) {
  EXPECT_EQ(float64.bytes(), 8u);
  EXPECT_EQ(bfloat16.bytes(), 2u);
  EXPECT_EQ(bool8.bytes(), 1u);
  EXPECT_EQ((DType{TypeCode::float_, 32, 4}).bytes(), 16u);
  EXPECT_EQ((DType{TypeCode::int_, 255, 65535}).bytes(), (255u * 65535u + 7u) / 8u);
}

TEST(ShapeTest, CountsElements) {
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ((Shape{2, 3, 4}.elements()), 24);
  EXPECT_EQ((Shape{huge, huge, 0}.elements()), 0);  // no overflow on the way to zero
  EXPECT_EQ(Shape{std::numeric_limits<std::int64_t>::max()}.elements(),
            std::numeric_limits<std::int64_t>::max());
}

TEST(ShapeTest, RefusesWhatCannotBeCounted) {
  EXPECT_EQ((Shape{2, -1}.elements().error().code), ErrorCode::invalid_input);
  EXPECT_EQ((Shape{-2, -3}.elements().error().code), ErrorCode::invalid_input);
  EXPECT_EQ((Shape{huge, huge}.elements().error().code), ErrorCode::limit_exceeded);
}

TEST(ShapeTest, RankIsLimited) {
  const std::vector<std::int64_t> nine(9, 1);
  EXPECT_EQ(Shape::from(nine).error().code, ErrorCode::limit_exceeded);
  const std::vector<std::int64_t> eight(8, 2);
  EXPECT_EQ(Shape::from(eight)->elements(), 256);
}

TEST(ShapeTest, ComparesByRankAndDimensions) {
  EXPECT_EQ((Shape{1, 2}), (Shape{1, 2}));
  EXPECT_NE((Shape{1, 2}), (Shape{1, 2, 0}));
  EXPECT_NE(Shape{}, Shape{0});
  EXPECT_EQ(to_string(Shape{1, 3, 224, 224}), "1x3x224x224");
  EXPECT_EQ(to_string(Shape{}), "scalar");
}

TEST(LayoutTest, NamesGoThereAndBack) {
  for (std::uint8_t i = 0; i < layout_count; ++i) {
    const auto layout = static_cast<Layout>(i);
    EXPECT_EQ(layout_from_string(to_string(layout)), layout);
  }
  EXPECT_EQ(layout_from_string("nchw"), std::nullopt);
  EXPECT_EQ(to_string(static_cast<Layout>(200)), "unknown layout");
}

TEST(ByteSizeTest, PadsChannelsOfBlockedLayouts) {
  const TensorType type{float32, {2, 17, 3, 3}};
  EXPECT_EQ(byte_size(type), 2u * 17 * 9 * 4);
  EXPECT_EQ(byte_size(type, Layout::nhwc), 2u * 17 * 9 * 4);
  EXPECT_EQ(byte_size(type, Layout::nChw8c), 2u * 24 * 9 * 4);
  EXPECT_EQ(byte_size(type, Layout::nChw16c), 2u * 32 * 9 * 4);
  EXPECT_EQ(byte_size({float32, {1, 0, 3, 3}}, Layout::nChw8c), 0u);
}

TEST(ByteSizeTest, RefusesWrongRankAndOverflow) {
  EXPECT_EQ(byte_size({float32, {2, 3}}, Layout::nhwc).error().code, ErrorCode::invalid_input);
  EXPECT_EQ(byte_size({float64, {std::int64_t{1} << 62}}).error().code, ErrorCode::limit_exceeded);
  const std::int64_t max = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(byte_size({uint8, {1, max, 1, 1}}, Layout::nChw16c).error().code,
            ErrorCode::limit_exceeded);
  EXPECT_EQ(byte_size({uint8, {1, -5, 1, 1}}, Layout::nChw16c).error().code,
            ErrorCode::invalid_input);
}

}  // namespace
}  // namespace opsplit
