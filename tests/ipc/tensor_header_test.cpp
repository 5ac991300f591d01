#include "ipc/tensor_header.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace opsplit::ipc {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t generation = 9;

PlannedTensor image() {
  PlannedTensor tensor;
  tensor.name = "image";
  tensor.type = {float32, {1, 3, 4, 4}};
  tensor.bytes = 16 * 4 * 4 * sizeof(float);  // of the largest layout, nChw16c
  return tensor;
}

TensorHeader header_of(const PlannedTensor& tensor, Layout layout) {
  return TensorHeader::of(tensor.type, layout, byte_size(tensor.type, layout).value(), generation);
}

TEST(TensorHeader, OfEveryLayoutThatFitsPasses) {
  for (const Layout layout : {Layout::row_major, Layout::nhwc, Layout::nChw8c, Layout::nChw16c}) {
    const auto checked = check(header_of(image(), layout), image(), generation);
    ASSERT_TRUE(checked) << checked.error().message;
    EXPECT_EQ(checked->layout, layout);
    EXPECT_EQ(checked->type, image().type);
  }
}

TEST(TensorHeader, AnythingElseThanThePlanIsRefused) {
  const std::vector<std::pair<std::string, std::function<void(TensorHeader&)>>> lies = {
      {"generation", [](TensorHeader& h) { ++h.generation; }},
      {"device", [](TensorHeader& h) { h.device_type = 2; }},
      {"device", [](TensorHeader& h) { h.device_id = 1; }},
      {"element type", [](TensorHeader& h) { ++h.dtype_code; }},
      {"element type", [](TensorHeader& h) { h.dtype_bits = 64; }},
      {"element type", [](TensorHeader& h) { h.dtype_lanes = 4; }},
      {"rank", [](TensorHeader& h) { h.rank = 255; }},
      {"rank", [](TensorHeader& h) { h.rank = 3; }},
      {"shape", [](TensorHeader& h) { h.shape[3] = 3; }},
      {"shape", [](TensorHeader& h) { h.shape[3] = -4; }},
      {"shape", [](TensorHeader& h) { h.shape[0] = std::int64_t{1} << 62; }},
      {"layout", [](TensorHeader& h) { h.layout = 200; }},
      {"size", [](TensorHeader& h) { h.bytes = 0; }},
      {"size", [](TensorHeader& h) { h.bytes = UINT64_MAX; }},
      {"size", [](TensorHeader& h) { h.layout = static_cast<std::uint8_t>(Layout::nChw16c); }}};
  for (const auto& [what, lie] : lies) {
    TensorHeader header = header_of(image(), Layout::row_major);
    lie(header);
    const auto checked = check(header, image(), generation);
    ASSERT_FALSE(checked) << what;
    EXPECT_THAT(checked.error().message, HasSubstr(what));
    EXPECT_THAT(checked.error().message, HasSubstr("'image'"));
  }
}

TEST(TensorHeader, OfWhatVariesSaysItsSizesWithinTheBound) {
  PlannedTensor boxes = image();
  boxes.type = {float32, {100, 4}};
  boxes.varies = true;
  boxes.bytes = 1600;
  const auto of = [&](const Shape& shape, Layout layout = Layout::row_major) {
    const TensorType type{float32, shape};
    return TensorHeader::of(type, layout, byte_size(type).value_or(0), generation);
  };
  for (const Shape& shape : {Shape{100, 4}, Shape{7, 4}, Shape{100, 1}, Shape{0, 4}, Shape{0, 0}}) {
    const auto checked = check(of(shape), boxes, generation);
    ASSERT_TRUE(checked) << checked.error().message;
    EXPECT_EQ(checked->type, (TensorType{float32, shape}));
    EXPECT_EQ(checked->bytes, byte_size(checked->type).value());
  }
  const std::int64_t huge = std::int64_t{1} << 62;
  for (const Shape& shape : {Shape{101, 4}, Shape{1, 5}, Shape{-1, 4}, Shape{huge, 4}, Shape{400},
                             Shape{1, 4, 1}, Shape{}})
    EXPECT_FALSE(check(of(shape), boxes, generation)) << to_string(shape);
  TensorHeader larger = of({7, 4});
  larger.bytes += 16;
  EXPECT_FALSE(check(larger, boxes, generation));
  boxes.type = {float32, {1, 1, 5, 5}};
  EXPECT_FALSE(check(of({1, 1, 5, 5}, Layout::nhwc), boxes, generation));
}

TEST(TensorHeader, OfWhatLiesOnAGpuNamesIt) {
  PlannedTensor tensor = image();
  tensor.bytes = 0;
  tensor.gpu = 1;
  tensor.in_arena = false;
  const auto on = [&](std::int32_t gpu, Layout layout) {
    return TensorHeader::of(tensor.type, layout, byte_size(tensor.type, layout).value(), generation,
                            gpu);
  };
  EXPECT_TRUE(check(on(1, Layout::row_major), tensor, generation));
  EXPECT_FALSE(check(on(1, Layout::nhwc), tensor, generation));
  EXPECT_FALSE(check(on(0, Layout::row_major), tensor, generation));
  EXPECT_FALSE(check(on(PlannedTensor::none, Layout::row_major), tensor, generation));
  EXPECT_FALSE(check(on(1, Layout::row_major), image(), generation));
}

TEST(TensorHeader, ALayoutThatThePlaceHasNoRoomForIsRefused) {
  PlannedTensor narrow = image();
  narrow.bytes = 3 * 4 * 4 * sizeof(float);
  EXPECT_TRUE(check(header_of(narrow, Layout::nhwc), narrow, generation));
  EXPECT_FALSE(check(header_of(narrow, Layout::nChw8c), narrow, generation));
}

TEST(SharedHeader, HoldsWhatWasStoredAndNothingElse) {
  const HeaderWords row_major(header_of(image(), Layout::row_major));
  const HeaderWords nhwc(header_of(image(), Layout::nhwc));
  SharedHeader shared{};
  EXPECT_FALSE(shared.holds(row_major, generation));
  shared.store(row_major, generation);
  EXPECT_TRUE(shared.holds(row_major, generation));
  EXPECT_FALSE(shared.holds(row_major, generation + 1));
  EXPECT_FALSE(shared.holds(nhwc, generation));
  EXPECT_EQ(shared.load().generation, generation);
  EXPECT_EQ(shared.load().shape, header_of(image(), Layout::row_major).shape);
  for (auto& word : shared.words) {
    const std::uint64_t before = word.fetch_xor(1);
    EXPECT_FALSE(shared.holds(row_major, generation));
    word = before;
  }
}

}  // namespace
}  // namespace opsplit::ipc
