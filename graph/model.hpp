// From a model file to a graph that is ready to be split: import, shapes, simplification.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "graph/external_data.hpp"
#include "graph/graph.hpp"

namespace opsplit::graph {

// Sizes for symbolic inputs: a concrete shape by input name. Inputs that the model declares with
// concrete sizes need no entry; an entry that contradicts the model is an error.
using InputShapes = std::map<std::string, Shape, std::less<>>;

// The types of a node's outputs, from those of its inputs and from constants.
using TypeRule = Result<std::vector<TensorType>> (*)(const Graph& graph, const Node& node);

// ONNX's own rules. Error unsupported: there is none for this node, or its types depend on data.
Result<std::vector<TensorType>> infer_by_onnx(const Graph& graph, const Node& node);

// Reads an ONNX file (opset 7 to 21). Weights may lie beside it; their paths must stay within the
// model's folder. Errors name the file and what is wrong with it: cut off, not ONNX, a cycle,
// a name defined twice, a tensor whose bytes do not match its shape.
Result<Graph> import_model(const std::filesystem::path& file);

// An operator's part, whose weights lie in files in `weights_folder` (write_parts() below).
Result<Graph> import_part(const std::filesystem::path& file,
                          const std::filesystem::path& weights_folder);

// Gives every value a type and folds what does not depend on an input, where the op is evaluated here:
// after it every symbolic size is bound, and shapes that overflow are refused. Padding
// is explicit after it: auto_pad has become pads. Nodes that opsplit has no kernels for have types, too: by
// `foreign_types`, else those that the model declares.
Result<> infer_shapes(Graph& graph, const InputShapes& shapes, TypeRule foreign_types = nullptr);

// Removes work: batch normalisation and per-channel Mul/Add with constants go into the convolution
// (or batch normalisation) before them, views of views become one, dead nodes and values go.
// Results stay the same up to rounding. Precondition: infer_shapes() succeeded.
Result<> simplify(Graph& graph);

// The three in one.
Result<Graph> load_model(const std::filesystem::path& file, const InputShapes& shapes);

}  // namespace opsplit::graph
