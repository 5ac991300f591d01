// From a model file to a graph that is ready to be split: import, shapes, simplification.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "graph/external_data.hpp"
#include "graph/graph.hpp"

namespace opsplit::graph {

// Sizes for symbolic inputs: a concrete shape by input name. Inputs that the model declares with
// concrete sizes need no entry; an entry that contradicts the model is an error. And the largest sizes of
// outputs whose sizes follow from data (how many boxes a detector finds), by output name.
using GivenShapes = std::map<std::string, Shape, std::less<>>;

// ONNX's own rules: from a serialized ModelProto of one node, or of those of a bundle, to a GraphProto with the
// types of what it gives (value_info) as far as they follow. Error unsupported: nobody can tell;
// invalid_input: ONNX finds the model wrong.
using OnnxRules = std::function<Result<std::string>(const std::string& model)>;

// The rules themselves, for who may die of a hostile model: libonnx does not check all that it trusts.
Result<std::string> infer_by_onnx(const std::string& model);

// Reads an ONNX file (opset 7 or later). Weights may lie beside it; their paths must stay within the
// model's folder. Errors name the file and what is wrong with it: cut off, not ONNX, a cycle,
// a name defined twice, a tensor whose bytes do not match its shape.
Result<Graph> import_model(const std::filesystem::path& file);

// An operator's part, whose weights lie in files in `weights_folder` (write_parts() below).
Result<Graph> import_part(const std::filesystem::path& file,
                          const std::filesystem::path& weights_folder);

// Gives every value a type and folds what does not depend on an input, where the op is evaluated here:
// after it every symbolic size is bound, and shapes that overflow are refused. Padding
// is explicit after it: auto_pad has become pads. Nodes that opsplit has no kernels for have types, too: by
// ONNX's rules, else those that the model declares. Where neither tells, what reads and what writes the value
// become one node (graph/bundle.hpp); if it is an output of the model, it must be given its largest sizes.
Result<> infer_shapes(Graph& graph, const GivenShapes& shapes, const OnnxRules& rules = {});

// Removes work: batch normalisation and per-channel Mul/Add with constants go into the convolution
// (or batch normalisation) before them, views of views become one, dead nodes and values go.
// Results stay the same up to rounding. Precondition: infer_shapes() succeeded.
Result<> simplify(Graph& graph);

// The three in one.
Result<Graph> load_model(const std::filesystem::path& file, const GivenShapes& shapes,
                         const OnnxRules& rules);

}  // namespace opsplit::graph
