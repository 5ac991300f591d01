#include "graph/onnx_types.hpp"
#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

bool is_quantized(DType dtype) {
  return dtype == int8 || dtype == uint8 || dtype == int16 || dtype == uint16 || dtype == int32;
}

tl::unexpected<Error> wrong(const Site& site, std::size_t input) {
  return fail(ErrorCode::invalid_input, "input {} is {}, which does not fit input 0 ({})", input,
              to_string(site.type(input)), to_string(site.type(0)));
}

// Scale and zero point: one number, one for each slice of an axis, or one for each block of one.
Result<> check_scale(const Site& site, DType scale, DType zero) {
  const Shape& x = site.shape(0);
  const Shape& given = site.shape(1);
  if (site.type(1).dtype != scale) return wrong(site, 1);
  if (site.has(2) && site.type(2) != TensorType{zero, given}) return wrong(site, 2);
  OPSPLIT_TRY(const std::int64_t count, given.elements());
  if (given.rank() == 0 || (given.rank() == 1 && count == 1)) return {};
  OPSPLIT_TRY(const std::size_t axis, normal_axis(site.node().integer("axis", 1), x.rank()));
  const std::int64_t block = site.node().integer("block_size", 0);
  if (given.rank() == 1 && block == 0 && given[0] == x[axis]) return {};
  Shape blocks = x;
  if (block < 1) return wrong(site, 1);
  blocks[axis] = x[axis] / block + (x[axis] % block != 0 ? 1 : 0);
  return given == blocks ? Result<>() : wrong(site, 1);
}

}  // namespace

Result<Types> infer_quantize(const Site& site) {
  DType dtype = site.has(2) ? site.type(2).dtype : uint8;
  if (const std::int64_t given = site.node().integer("output_dtype", 0); given != 0 && !site.has(2))
    dtype = dtype_from_onnx(given).value_or(float32);
  if (site.type(0).dtype != float32 || !is_quantized(dtype) || dtype == int32)
    return fail(ErrorCode::unsupported, "quantizes {} to {}, which is not supported",
                to_string(site.type(0)), to_string(dtype));
  OPSPLIT_CHECK(check_scale(site, float32, dtype));
  return Types{{dtype, site.shape(0)}};
}

Result<Types> infer_dequantize(const Site& site) {
  const DType dtype = site.type(0).dtype;
  if (!is_quantized(dtype) || site.type(1).dtype != float32)
    return fail(ErrorCode::unsupported, "dequantizes {} to {}, which is not supported",
                to_string(site.type(0)), to_string(site.type(1).dtype));
  OPSPLIT_CHECK(check_scale(site, float32, dtype));
  return Types{{float32, site.shape(0)}};
}

Result<Types> infer_dynamic_quantize(const Site& site) {
  if (site.type(0).dtype != float32)
    return fail(ErrorCode::unsupported, "quantizes {}, which is not supported",
                to_string(site.type(0)));
  return Types{{uint8, site.shape(0)}, {float32, {}}, {uint8, {}}};
}

}  // namespace opsplit::graph::ops
