// Bundles: nodes of a model that are one node here. That is what has subgraphs, and what values lie between that
// are no dense tensors of known size. Only ONNX Runtime, and ONNX's own rules for types, get to see what is
// inside: a bundle holds the nodes as the model has them. Outputs of the model whose sizes follow from data come
// from bundles, too: their type has the largest sizes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/external_data.hpp"
#include "graph/graph.hpp"

namespace onnx {
class GraphProto;
class NodeProto;
}  // namespace onnx

namespace opsplit::graph {

// The node for `nodes` (at least one), which read nothing but `inputs`, each listed once, and whose `outputs`
// others may read. `cost` is what cost() says of all of them, as far as that is known. Outputs that are open
// will vary.
Node make_bundle(const Graph& graph, std::string name, onnx::GraphProto nodes,
                 std::vector<ValueId> inputs, std::vector<ValueId> outputs, double cost);

// Whether the sizes of `output`, which the node gives, follow from data: they are at most those of its type.
bool varies(const Node& node, ValueId output);

// add_node(), but of a bundle what is in it. Error: it is no bundle of ours.
Result<> add_unbundled(const Graph& graph, const Node& node, onnx::GraphProto& to);

// What the node reads, each name once: its operands, and what its subgraphs take from around them.
// Refused: a name that a subgraph defines although it means something around it (`is_defined`).
Result<std::vector<std::string>> names_read(
    onnx::NodeProto& node, const std::function<bool(const std::string&)>& is_defined);

// Weights in the node and its subgraphs that lie in files beside the model go into the node. `room`: how many
// bytes may still be copied, for any number of tensors may lie in the same place of a file.
Result<> take_in_weights(onnx::NodeProto& node, ExternalData& external, std::uint64_t& room);

// Nodes between which a value is open (Value::open) become bundles, with all that lies on a way from one
// node of a bundle to another: no bundle depends on itself. Nothing but a bundle has open outputs then, and
// nobody reads them, or they are outputs of the graph: these get their bounds for types, and vary. Near-linear
// in the graph. Precondition: open outputs of the graph have bounds.
Result<> bundle_open(Graph& graph);

}  // namespace opsplit::graph
