// A graph that was loaded and simplified once, kept to be used again: its weights as one block of
// bytes, and the rest as a small ONNX model that refers to it. Where they are kept is the caller's to
// say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"

namespace opsplit::graph {

// The constants of a graph, each once and 64-byte aligned. Integers (shapes, axes) are not among them:
// they stay in the models, since other readers infer shapes from them.
class WeightsBlock {
 public:
  // The graph outlives this object.
  explicit WeightsBlock(Graph& graph);

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] const std::string& hash() const { return hash_; }  // of all of it
  void write(std::byte* to) const;  // to zeros; what lies between constants stays as it is
  // From now on the graph's constants know that they lie in this file, the block at `offset`.
  void stored_in(const std::string& file, std::uint64_t offset);

 private:
  struct Entry {
    ValueId value;
    std::uint64_t offset;
    std::string hash;
  };
  Graph& graph_;
  std::vector<Entry> entries_;
  std::uint64_t bytes_ = 0;
  std::string hash_;
};

// Precondition: infer_shapes() succeeded; the weights are stored.
std::string export_stored(const Graph& graph);
// The weights are mapped. The types are inferred.
Result<Graph> import_stored(std::string_view bytes, const std::filesystem::path& weights_folder);

}  // namespace opsplit::graph
