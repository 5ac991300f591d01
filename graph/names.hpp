// Names that come from a model: what may be shown as it is, and how new ones are made up.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

namespace opsplit::graph {

// Printable UTF-8: fit for one-line messages, JSON, terminals.
bool is_printable(std::string_view text);

// "Conv_3/relu:0" -> "conv_3_relu_0": [a-z0-9_-], 1 to 64 characters; `otherwise` if nothing is left.
std::string operator_name(std::string_view text, std::string_view otherwise);

std::string lower_case(std::string_view text);

// Hands out names, each once.
class UniqueNames {
 public:
  // False if the name is taken.
  bool take(const std::string& name) { return taken_.insert(name).second; }
  // The wanted name, or with "_2", "_3", ... after it; at most `max_size` characters.
  std::string make(std::string_view wanted, std::size_t max_size = std::string::npos);

 private:
  std::set<std::string> taken_;
  std::map<std::string, int, std::less<>> last_number_;  // tried for a name that was taken
};

}  // namespace opsplit::graph
