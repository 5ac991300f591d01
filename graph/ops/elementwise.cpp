#include "graph/onnx_types.hpp"
#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {
namespace {

bool is_integer(DType dtype) {
  return dtype.code == TypeCode::int_ || dtype.code == TypeCode::uint;
}

Result<Types> broadcast_of_all(const Site& site, DType dtype) {
  Shape shape = site.shape(0);
  for (std::size_t i = 1; i < site.inputs(); ++i) {
    OPSPLIT_TRY(shape, broadcast(shape, site.shape(i)));
  }
  return Types{{dtype, shape}};
}

tl::unexpected<Error> wrong_type(const Site& site, std::string_view wanted) {
  return fail(ErrorCode::invalid_input, "input 0 is {}, must be {}", to_string(site.type(0)),
              wanted);
}

}  // namespace

Result<Types> infer_same(const Site& site) { return Types{site.type(0)}; }

Result<Types> infer_unary_float(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  return infer_same(site);
}

Result<Types> infer_unary_number(const Site& site) {
  if (site.type(0).dtype == bool8)
    return fail(ErrorCode::invalid_input, "input 0 is bool, must be a number");
  return infer_same(site);
}

Result<Types> infer_broadcast(const Site& site) {
  // The exponent of Pow is a number of any type; everywhere else all inputs are of one.
  if (site.node().op_type != "Pow")
    OPSPLIT_CHECK(check_same_dtype(site));
  else if (site.type(1).dtype == bool8)
    return fail(ErrorCode::invalid_input, "the exponent (input 1) is bool, must be a number");
  OPSPLIT_CHECK(infer_unary_number(site));
  return broadcast_of_all(site, site.type(0).dtype);
}

Result<Types> infer_integers(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  if (!is_integer(site.type(0).dtype)) return wrong_type(site, "of integers");
  return broadcast_of_all(site, site.type(0).dtype);
}

Result<Types> infer_comparison(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  if (site.node().op_type != "Equal") OPSPLIT_CHECK(infer_unary_number(site));  // bool has no order
  return broadcast_of_all(site, bool8);
}

Result<Types> infer_logic(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  if (site.type(0).dtype != bool8) return wrong_type(site, "bool");
  return broadcast_of_all(site, bool8);
}

Result<Types> infer_question(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  return Types{{bool8, site.shape(0)}};
}

Result<Types> infer_where(const Site& site) {
  if (site.type(0).dtype != bool8) return wrong_type(site, "bool");
  if (site.type(1).dtype != site.type(2).dtype)
    return fail(ErrorCode::invalid_input, "chooses between {} and {}", to_string(site.type(1)),
                to_string(site.type(2)));
  return broadcast_of_all(site, site.type(1).dtype);
}

Result<Types> infer_prelu(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  OPSPLIT_TRY(const Shape shape, broadcast(site.shape(0), site.shape(1)));
  if (shape != site.shape(0))
    return fail(ErrorCode::invalid_input, "the slope's shape {} does not broadcast to {}",
                to_string(site.shape(1)), to_string(site.shape(0)));
  return infer_unary_number(site);
}

Result<Types> infer_clip(const Site& site) {
  OPSPLIT_CHECK(check_same_dtype(site));
  for (const std::size_t bound : {1u, 2u}) {
    if (!site.has(bound)) continue;
    OPSPLIT_TRY(const std::int64_t elements, site.shape(bound).elements());
    if (elements != 1)
      return fail(ErrorCode::invalid_input, "bound (input {}) is {}, must be one number", bound,
                  to_string(site.type(bound)));
  }
  return infer_unary_number(site);
}

Result<Types> infer_cast(const Site& site) {
  const auto dtype = dtype_from_onnx(site.node().integer("to", 0));
  if (!dtype)
    return fail(ErrorCode::unsupported, "casts to element type {}, which is not supported",
                site.node().integer("to", 0));
  return Types{{*dtype, site.shape(0)}};
}

Result<Types> infer_cast_like(const Site& site) {
  return Types{{site.type(1).dtype, site.shape(0)}};
}

Result<Types> infer_dropout(const Site& site) {
  // From opset 12 on: ratio and training_mode are inputs.
  if (site.has(2)) {
    const Constant* training = site.constant(2);
    if (training == nullptr || training->bytes.size() != 1 || training->bytes[0] != std::byte{0})
      return fail(ErrorCode::invalid_input,
                  "training_mode is not false: export the model for inference");
  }
  return infer_same(site);
}

}  // namespace opsplit::graph::ops
