// Topological order of a small directed graph whose vertices are 0 .. n-1.
#pragma once

#include <cstdint>
#include <vector>

namespace opsplit::graph {

// For each vertex, its successors; an edge may be listed more than once.
using Successors = std::vector<std::vector<std::int32_t>>;

struct Order {
  std::vector<std::int32_t>
      vertices;  // all of them; where the edges leave a choice, the smallest first
  std::vector<std::int32_t> cycle;  // not empty: there is no order, these go round in one
};

Order topological_order(const Successors& successors);

// For each vertex, a number that it shares with those that it goes round with, and with nobody else.
std::vector<std::int32_t> strong_components(const Successors& successors);

}  // namespace opsplit::graph
