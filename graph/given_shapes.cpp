#include "graph/given_shapes.hpp"

#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include <algorithm>

#include "graph/onnx_types.hpp"

namespace opsplit::graph {
namespace {

struct Binding {
  std::int64_t size;
  std::string input;  // that it was taken from
};
using Symbols = std::map<std::string, Binding>;

std::string to_string(const std::vector<DeclaredDim>& dims) {
  std::vector<std::string> texts;
  for (const DeclaredDim& dim : dims) {
    const auto* symbol = std::get_if<std::string>(&dim);
    texts.push_back(symbol == nullptr ? fmt::format("{}", std::get<std::int64_t>(dim))
                    : symbol->empty() ? "?"
                                      : *symbol);
  }
  return dims.empty() ? "scalar" : fmt::format("{}", fmt::join(texts, "x"));
}

Result<> check_names(const Graph& graph, const GivenShapes& shapes) {
  for (const auto& [name, shape] : shapes) {
    std::vector<std::string> known;
    for (const auto* ids : {&graph.inputs, &graph.outputs})
      for (const ValueId id : *ids) known.push_back(graph.value(id).name);
    if (std::find(known.begin(), known.end(), name) == known.end())
      return fail(ErrorCode::invalid_input,
                  "--shape {}=...: no such input or output, the model has: {}", name,
                  fmt::join(known, ", "));
  }
  return {};
}

Result<> check_sizes(const Shape& given) {
  for (const std::int64_t size : given)
    if (size < 1)
      return fail(ErrorCode::invalid_input, "--shape says {}: sizes must be at least 1",
                  opsplit::to_string(given));
  return {};
}

// Checks what the user says of one input against the model, and learns its symbols.
Result<> learn(const Value& input, const Shape& given, Symbols& symbols) {
  OPSPLIT_CHECK(check_sizes(given));
  if (!input.declared) return {};
  const auto contradiction = [&] {
    return fail(ErrorCode::invalid_input, "the model says {}, --shape says {}",
                to_string(*input.declared), opsplit::to_string(given));
  };
  if (input.declared->size() != given.rank()) return contradiction();
  for (std::size_t axis = 0; axis < given.rank(); ++axis) {
    const DeclaredDim& declared = (*input.declared)[axis];
    if (const auto* size = std::get_if<std::int64_t>(&declared)) {
      if (*size != given[axis]) return contradiction();
      continue;
    }
    const auto& symbol = std::get<std::string>(declared);
    if (symbol.empty()) continue;
    const auto [known, added] = symbols.emplace(symbol, Binding{given[axis], input.name});
    if (!added && known->second.size != given[axis])
      return fail(ErrorCode::invalid_input, "--shape makes '{}' {}, but {} for input '{}'", symbol,
                  given[axis], known->second.size, known->second.input);
  }
  return {};
}

// The shape of an input that the user says nothing of.
Result<Shape> deduce(const Value& input, const Symbols& symbols) {
  if (!input.declared)
    return fail(ErrorCode::invalid_input,
                "the model gives no shape: say --shape {}=1,3,224,224 or the like", input.name);
  std::vector<std::int64_t> dims;
  for (const DeclaredDim& declared : *input.declared) {
    if (const auto* size = std::get_if<std::int64_t>(&declared)) {
      dims.push_back(*size);
      continue;
    }
    const auto& symbol = std::get<std::string>(declared);
    const auto known = symbols.find(symbol);
    if (known == symbols.end())
      return fail(
          ErrorCode::invalid_input,
          "size '{}' of {} is not known: say --shape {}=... with a number for each dimension",
          symbol.empty() ? "?" : symbol, to_string(*input.declared), input.name);
    dims.push_back(known->second.size);
  }
  return Shape::from(dims);
}

// What is known of an open value as a tensor, sizes that are not known left out. Nothing: it is no tensor of
// numbers, or even that is not known.
std::optional<onnx::TypeProto::Tensor> known_tensor(const Value& value) {
  onnx::TypeProto type;
  if (!type.ParseFromString(value.open->onnx) || !type.has_tensor_type()) return std::nullopt;
  if (!dtype_from_onnx(type.tensor_type().elem_type())) return std::nullopt;
  return type.tensor_type();
}

Result<TensorType> bound(const Value& output, const Shape& given) {
  OPSPLIT_CHECK(check_sizes(given));
  const auto known = known_tensor(output);
  if (!known)
    return fail(ErrorCode::unsupported, "{}: it is no tensor of numbers, as far as is known",
                output.open->why);
  const auto contradiction = [&] {
    std::vector<std::string> sizes;
    for (const auto& dim : known->shape().dim())
      sizes.push_back(dim.has_dim_value() ? fmt::format("{}", dim.dim_value()) : "?");
    return fail(ErrorCode::invalid_input, "it is {}, --shape says {}",
                sizes.empty() ? "scalar" : fmt::format("{}", fmt::join(sizes, "x")),
                opsplit::to_string(given));
  };
  if (known->has_shape()) {
    if (static_cast<std::size_t>(known->shape().dim_size()) != given.rank()) return contradiction();
    for (std::size_t axis = 0; axis < given.rank(); ++axis) {
      const auto& dim = known->shape().dim(static_cast<int>(axis));
      if (dim.has_dim_value() && dim.dim_value() != given[axis]) return contradiction();
    }
  }
  const TensorType type{*dtype_from_onnx(known->elem_type()), given};
  OPSPLIT_CHECK(byte_size(type));
  return type;
}

}  // namespace

Result<> bind_inputs(Graph& graph, const GivenShapes& shapes) {
  OPSPLIT_CHECK(check_names(graph, shapes));
  Symbols symbols;
  const auto where = [](const Value& input) { return fmt::format("input '{}'", input.name); };
  for (const ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    const auto given = shapes.find(input.name);
    if (given == shapes.end()) continue;
    if (auto learned = learn(input, given->second, symbols); !learned)
      return within(where(input), learned.error());
  }
  for (const ValueId id : graph.inputs) {
    Value& input = graph.value(id);
    const auto given = shapes.find(input.name);
    auto shape = given != shapes.end() ? Result<Shape>(given->second) : deduce(input, symbols);
    if (!shape) return within(where(input), shape.error());
    input.type = TensorType{*input.dtype, *shape};
  }
  return {};
}

Result<> bound_outputs(Graph& graph, const GivenShapes& shapes) {
  for (const ValueId id : graph.outputs) {
    Value& output = graph.value(id);
    const auto given = shapes.find(output.name);
    if (output.open && given == shapes.end()) {
      if (!known_tensor(output))
        return fail(ErrorCode::unsupported,
                    "{}: output '{}' of the model is no tensor of numbers, as far as is known; "
                    "declare its type (onnx.shape_inference adds what it knows), or cut the model "
                    "before it",
                    output.open->why, output.name);
      return fail(ErrorCode::unsupported,
                  "{}: how large output '{}' of the model gets is not known: say --shape {}=... "
                  "with the largest size of each dimension",
                  output.open->why, output.name, output.name);
    }
    if (given == shapes.end()) continue;
    const auto where = fmt::format("output '{}'", output.name);
    if (!output.open) {  // another libonnx may have known less
      if (fits(output.type->shape, given->second)) continue;
      return fail(ErrorCode::invalid_input, "{}: it is {}, --shape says {}", where,
                  opsplit::to_string(output.type->shape), opsplit::to_string(given->second));
    }
    auto type = bound(output, given->second);
    if (!type) return within(where, type.error());
    output.open->bound = *type;
  }
  return {};
}

}  // namespace opsplit::graph
