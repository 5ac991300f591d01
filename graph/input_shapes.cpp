#include "graph/input_shapes.hpp"

#include <fmt/ranges.h>

#include <algorithm>

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

Result<> check_names(const Graph& graph, const InputShapes& shapes) {
  for (const auto& [name, shape] : shapes) {
    std::vector<std::string> known;
    for (const ValueId input : graph.inputs) known.push_back(graph.value(input).name);
    if (std::find(known.begin(), known.end(), name) == known.end())
      return fail(ErrorCode::invalid_input, "--shape {}=...: no such input, the model has: {}",
                  name, fmt::join(known, ", "));
  }
  return {};
}

// Checks what the user says of one input against the model, and learns its symbols.
Result<> learn(const Value& input, const Shape& given, Symbols& symbols) {
  for (const std::int64_t size : given)
    if (size < 1)
      return fail(ErrorCode::invalid_input, "--shape says {}: sizes must be at least 1",
                  opsplit::to_string(given));
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

}  // namespace

Result<> bind_inputs(Graph& graph, const InputShapes& shapes) {
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

}  // namespace opsplit::graph
