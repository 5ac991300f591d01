#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>

#include "graph/names.hpp"
#include "graph/planner.hpp"

namespace opsplit::graph {
namespace {

// Paul Tol's "light" scheme: fills that keep apart for the colour-blind too, each good under black
// text.
constexpr std::array palette = {"#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF",
                                "#44BB99", "#BBCC33", "#AAAA00", "#DDDDDD"};

// Names longer than this many bytes lose their beginning: ends tell the nodes of a model apart.
constexpr std::size_t max_shown_name = 36;

// Of the operator with this index: from the palette, then hues that go round by the golden ratio, so
// that neighbours differ.
std::string colour_of(std::size_t op) {
  if (op < palette.size()) return palette[op];
  const double turns = static_cast<double>(op - palette.size()) * 0.618034;
  return fmt::format("{:.3f} 0.32 0.95", turns - std::floor(turns));
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

std::string html_text(std::string_view text) {
  std::string result;
  for (const char c : text) switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      default:
        result += c;
    }
  return result;
}

std::string dot_string(std::string_view text) { return '"' + escaped(text) + '"'; }

std::string shown(std::string_view name) {
  if (name.size() <= max_shown_name) return std::string(name);
  name.remove_prefix(name.size() - max_shown_name);
  while ((static_cast<unsigned char>(name.front()) & 0xc0) == 0x80) name.remove_prefix(1);
  return fmt::format("...{}", name);
}

// Three digits or fewer.
std::string shown_bytes(std::uint64_t bytes) {
  auto value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB"}) {
    if (value < 1000) break;
    value /= 1024;
    unit = larger;
  }
  return fmt::format("{:.{}f} {}", value, bytes < 1000 || value >= 10 ? 0 : 1, unit);
}

class DotWriter {
 public:
  explicit DotWriter(const Plan& plan) : plan_(plan) {
    for (const PlannedOperator& op : plan.operators) total_cost_ += op.cost;
  }

  std::string write() {
    fmt::format_to(out_,
                   "digraph {} {{\n"
                   "  graph [fontname={font}, nodesep=0.3, ranksep=0.3, labelloc=t, label=<{}>];\n"
                   "  node [fontname={font}, fontsize=12, shape=box, style=\"filled,rounded\", "
                   "color=\"#555555\", margin=\"0.18,0.06\"];\n"
                   "  edge [fontname={font}, fontsize=10, color=\"#555555\", arrowsize=0.7];\n",
                   dot_string(plan_.model), title(),
                   fmt::arg("font", "\"Helvetica,Arial,sans-serif\""));
    for (std::size_t i = 0; i < plan_.tasks.size(); ++i) task(i);
    for (const char* client : {"in", "out"})
      fmt::format_to(out_,
                     "  {} [label=\"client\", shape=ellipse, style=filled, fillcolor=white, "
                     "penwidth=2];\n",
                     client);
    for (const PlannedTensor& tensor : plan_.tensors)
      for (const std::int32_t reader : tensor.readers) edge(tensor, fmt::format("t{}", reader));
    for (const std::int32_t output : plan_.outputs)
      edge(plan_.tensors[static_cast<std::size_t>(output)], "out");
    return dot_ + "}\n";
  }

 private:
  [[nodiscard]] std::string share(double cost) const {
    return fmt::format("{:.1f} %", total_cost_ > 0 ? 100 * cost / total_cost_ : 0);
  }

  // What is drawn, and which colour is which operator. Where each has one task, the tasks say the
  // latter themselves.
  [[nodiscard]] std::string title() const {
    std::string html = fmt::format(
        "<table border=\"0\" cellborder=\"0\" cellspacing=\"0\" cellpadding=\"4\">"
        "<tr><td colspan=\"3\"><font point-size=\"16\">{}, {}</font></td></tr>",
        html_text(plan_.model), html_text(plan_.split));
    const auto row = [&](std::string_view colour, std::string_view name, std::string_view tasks,
                         std::string_view cost) {
      html += fmt::format(
          "<tr><td bgcolor=\"{}\" align=\"left\">{}</td><td align=\"right\">{}</td>"
          "<td align=\"right\">{}</td></tr>",
          colour, name, tasks, cost);
    };
    if (plan_.tasks.size() > plan_.operators.size()) {
      row("white", "<b>operator</b>", "<b>tasks</b>", "<b>cost</b>");
      for (std::size_t i = 0; i < plan_.operators.size(); ++i)
        row(colour_of(i), plan_.operators[i].name, std::to_string(plan_.operators[i].tasks.size()),
            share(plan_.operators[i].cost));
    }
    return html + "<tr><td> </td></tr></table>";
  }

  void task(std::size_t index) {
    const PlannedTask& task = plan_.tasks[index];
    const auto op = static_cast<std::size_t>(task.op);
    std::string nodes;
    for (const std::string& node : task.nodes) nodes += escaped(node) + "\\n";
    const std::string more =
        task.nodes.size() > 1 ? fmt::format(" (+{} nodes)", task.nodes.size() - 1) : "";
    // Per node, the operator has the task's name.
    const std::string& name = plan_.operators[op].name;
    const std::string by = name == lower_case(task.name) ? "" : name + ", ";
    fmt::format_to(out_, "  t{} [label=\"{}{}\\n{}{}\", fillcolor=\"{}\", tooltip=\"{}\"];\n",
                   index, escaped(shown(task.name)), more, by, share(task.cost), colour_of(op),
                   nodes);
  }

  void edge(const PlannedTensor& tensor, const std::string& to) {
    const bool from_client = tensor.producer == PlannedTensor::none;
    // The client's tensors have names that its user knows. Left-aligned, off the line.
    const std::string name =
        from_client || to == "out" ? "  " + escaped(shown(tensor.name)) + "\\l" : std::string();
    fmt::format_to(out_, "  {} -> {} [label=\"{}  {}, {}\\l\", tooltip={}];\n",
                   from_client ? "in" : fmt::format("t{}", tensor.producer), to, name,
                   to_string(tensor.type.shape) + (tensor.varies ? " at most" : ""),
                   shown_bytes(tensor.bytes),
                   dot_string(fmt::format("{}: {}", tensor.name, to_string(tensor.type))));
  }

  const Plan& plan_;
  double total_cost_ = 0;
  std::string dot_;
  std::back_insert_iterator<std::string> out_ = std::back_inserter(dot_);
};

}  // namespace

std::string to_dot(const Plan& plan) { return DotWriter(plan).write(); }

}  // namespace opsplit::graph
