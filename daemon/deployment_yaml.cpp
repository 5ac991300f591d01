// Deployment::parse(): YAML text to a Deployment. Strict: what is not understood is an error that
// names the line, and what is allowed there.
#include <fmt/ranges.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <optional>
#include <set>
#include <sstream>

#include "base/plan.hpp"
#include "daemon/deployment.hpp"
#include "daemon/nearest.hpp"

namespace opsplit::daemon {
namespace {

constexpr std::size_t max_operator_name = 64;

// Text from the file as part of a message: on one line, printable, not too long.
std::string printable(const std::string& text) {
  constexpr std::size_t longest = 60;
  std::string shortened = text.substr(0, longest);
  for (char& c : shortened)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text.size() > longest ? shortened + "..." : shortened;
}

std::string shown(const YAML::Node& node) {
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  if (node.IsNull()) return "nothing";
  return fmt::format("'{}'", printable(node.Scalar()));
}

bool is_operator_name(std::string_view name) {
  return !name.empty() && name.size() <= max_operator_name &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

// Whether YAML reads this as something other than text: 12, 1e3, true, ~. In quotes, it is text.
bool is_quoted(const YAML::Node& node) {
  return node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str";
}

bool reads_as_number(const std::string& scalar) {
  double number = 0;
  const char* const begin = scalar.c_str() + (scalar[0] == '+' ? 1 : 0);
  const char* const end = scalar.c_str() + scalar.size();
  return scalar.starts_with("0x") || scalar.starts_with("0o") ||
         (begin != end && std::isalpha(static_cast<unsigned char>(*begin)) == 0 &&
          std::from_chars(begin, end, number).ptr == end);
}

bool is_text(const YAML::Node& node) {
  if (!node.IsScalar()) return false;
  if (is_quoted(node)) return true;
  std::string lower = node.Scalar();
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower != "true" && lower != "false" && lower != "null" && !reads_as_number(lower);
}

// Where the last document that was parsed begins.
class LineOfDocument final : public YAML::EventHandler {
 public:
  int found = 1;

  void OnDocumentStart(const YAML::Mark& mark) override { found = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

class Reader {
 public:
  explicit Reader(const std::filesystem::path& file) : file_(file) { out_.file = file; }

  Result<Deployment> read(std::string_view text) {
    OPSPLIT_TRY(const YAML::Node root, document(text));
    if (!root.IsMap())
      return wrong(root, "the file must be a mapping such as 'model: digits.onnx'", root);
    OPSPLIT_CHECK(keys(root, "", top_keys()));
    if (out_.model.empty())
      return fail(ErrorCode::invalid_input, "{}:1: 'model' is missing: the path of an .onnx file",
                  file_.native());
    if (out_.name.empty()) out_.name = Deployment::for_model(out_.model).name;
    if (slots_line_ == 0) out_.slots_per_client = out_.depth;
    if (out_.slots_per_client > out_.depth)
      return at_line(slots_line_, "slots_per_client: {} is more than depth, {}",
                     out_.slots_per_client, out_.depth);
    OPSPLIT_CHECK(split_by_hand());
    return std::move(out_);
  }

  struct Key {
    std::string name;
    Result<> (Reader::*read)(const YAML::Node&);
  };
  static std::vector<Key> top_keys() {
    return {{"name", &Reader::name},           {"model", &Reader::model},
            {"split", &Reader::split},         {"shapes", &Reader::shapes},
            {"depth", &Reader::depth},         {"slots_per_client", &Reader::slots_per_client},
            {"objective", &Reader::objective}, {"client", &Reader::client},
            {"operators", &Reader::operators}};
  }
  static std::vector<Key> operator_keys() {
    return {{"cores", &Reader::cores},     {"instances", &Reader::instances},
            {"standby", &Reader::standby}, {"hung_after", &Reader::hung_after},
            {"backend", &Reader::backend}, {"gpu", &Reader::gpu},
            {"stream", &Reader::stream},   {"nodes", &Reader::nodes},
            {"ops", &Reader::ops}};
  }
  static std::vector<Key> stream_keys() { return {{"priority", &Reader::priority}}; }
  static std::vector<std::string> names(const std::vector<Key>& known) {
    std::vector<std::string> all;
    all.reserve(known.size());
    for (const Key& key : known) all.push_back(key.name);
    return all;
  }

 private:
  template <class... Args>
  tl::unexpected<Error> at_line(int line, fmt::format_string<Args...> format, Args&&... args) {
    return fail(ErrorCode::invalid_input, "{}:{}: {}", file_.native(), line,
                fmt::format(format, std::forward<Args>(args)...));
  }

  static int line_of(const YAML::Node& node) { return std::max(0, node.Mark().line) + 1; }

  // "digits.yaml:7: depth: must be a number from 1 to 64, not 'many'"
  tl::unexpected<Error> wrong(const YAML::Node& node, std::string_view what,
                              const YAML::Node& found) {
    return at_line(line_of(node), "{}, not {}", what, shown(found));
  }

  Result<YAML::Node> document(std::string_view text) {
    try {
      // Not LoadAll(): some damaged files are an endless row of empty documents to it.
      std::istringstream stream{std::string(text)};
      YAML::Parser parser(stream);
      LineOfDocument line;
      if (parser.HandleNextDocument(line) && parser.HandleNextDocument(line))
        return at_line(line.found, "the file goes on behind its first document");
      const YAML::Node document = YAML::Load(std::string(text));
      if (document.IsNull())
        return at_line(1, "the file is empty; `opsplit init` prints one to start from");
      return document;
    } catch (const YAML::Exception& problem) {
      return at_line(problem.mark.line + 1, "is not YAML: {}", printable(problem.msg));
    }
  }

  // Calls the reader of each key. `where` is "" or "operators.conv", to be put before messages.
  Result<> keys(const YAML::Node& map, const std::string& where, const std::vector<Key>& known) {
    std::set<std::string> seen;
    for (const auto& entry : map) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : std::string();
      const auto found = std::find_if(known.begin(), known.end(),
                                      [&](const Key& candidate) { return candidate.name == key; });
      if (found == known.end())
        return at_line(line_of(entry.first), "{}{}unknown key {}{}; allowed: {}", where,
                       where.empty() ? "" : ": ", shown(entry.first),
                       did_you_mean(key, names(known)), fmt::join(names(known), ", "));
      if (!seen.insert(key).second)
        return at_line(line_of(entry.first), "{}{}{} is there twice", where,
                       where.empty() ? "" : ".", key);
      where_ = where.empty() ? key : where + "." + key;
      OPSPLIT_CHECK((this->*found->read)(entry.second));
    }
    return {};
  }

  Result<std::string> text(const YAML::Node& node, std::string_view wanted) {
    if (node.IsScalar() && !is_text(node))
      return at_line(line_of(node), "{}: must be {}; {} is no text, write it in quotes", where_,
                     wanted, shown(node));
    if (!node.IsScalar() || node.Scalar().empty())
      return wrong(node, fmt::format("{}: must be {}", where_, wanted), node);
    return node.Scalar();
  }

  // A leading zero is octal to some YAML readers: refused, as "-0" is.
  static std::optional<int> whole_number(const YAML::Node& node, int min, int max) {
    if (!node.IsScalar() || is_quoted(node)) return std::nullopt;
    const std::string& scalar = node.Scalar();
    int value = 0;
    const char* const end = scalar.data() + scalar.size();
    const auto [next, problem] = std::from_chars(scalar.data(), end, value);
    const bool is_plain = scalar == "0" || (!scalar.starts_with('0') && !scalar.starts_with('-'));
    if (problem != std::errc{} || next != end || !is_plain || value < min || value > max)
      return std::nullopt;
    return value;
  }

  Result<int> number(const YAML::Node& node, int max) {
    if (const auto value = whole_number(node, 1, max)) return *value;
    return wrong(node, fmt::format("{}: must be a number from 1 to {}", where_, max), node);
  }

  Result<std::vector<std::string>> texts(const YAML::Node& node, std::string_view wanted) {
    if (!node.IsSequence() || node.size() == 0)
      return wrong(node, fmt::format("{}: must be {}", where_, wanted), node);
    std::vector<std::string> all;
    for (const YAML::Node& element : node) {
      OPSPLIT_TRY(all.emplace_back(), text(element, wanted));
    }
    return all;
  }

  Result<> name(const YAML::Node& node) {
    OPSPLIT_TRY(out_.name, text(node, "a name"));
    if (!is_deployment_name(out_.name))
      return wrong(node, "name: must be 1 to 32 of a-z, 0-9, '_' and '-'", node);
    return {};
  }

  Result<> model(const YAML::Node& node) {
    OPSPLIT_TRY(const std::string path, text(node, "the path of an .onnx file"));
    if (path.find('\0') != std::string::npos)
      return wrong(node, "model: must be the path of an .onnx file", node);
    out_.model = file_.parent_path() / path;
    return {};
  }

  Result<> split(const YAML::Node& node) {
    OPSPLIT_TRY(const std::string kind, text(node, "fused, by-type, per-node or stages:N"));
    auto spec = graph::parse_split(kind);
    if (!spec) return at_line(line_of(node), "split: {}", spec.error().message);
    out_.split = std::move(*spec);
    split_line_ = line_of(node);
    return {};
  }

  Result<> shapes(const YAML::Node& node) {
    if (node.IsNull()) return {};
    constexpr std::string_view wanted =
        "an input or output and its sizes, such as image: [1, 3, 736, 736]";
    if (!node.IsMap()) return wrong(node, fmt::format("shapes: must be {}", wanted), node);
    for (const auto& entry : node) {
      if (!entry.first.IsScalar() || entry.first.Scalar().empty() || !entry.second.IsSequence())
        return wrong(entry.first, fmt::format("shapes: must be {}", wanted), entry.second);
      const std::string& tensor = entry.first.Scalar();
      where_ = "shapes." + printable(tensor);
      std::vector<std::int64_t> dims;
      for (const YAML::Node& size : entry.second) {
        OPSPLIT_TRY(dims.emplace_back(), number(size, std::numeric_limits<int>::max()));
      }
      const auto shape = Shape::from(dims);
      if (!shape) return at_line(line_of(entry.second), "{}: {}", where_, shape.error().message);
      if (const auto elements = shape->elements(); !elements)
        return at_line(line_of(entry.second), "{}: {}", where_, elements.error().message);
      if (!out_.shapes.emplace(tensor, *shape).second)
        return at_line(line_of(entry.first), "{} is there twice", where_);
    }
    return {};
  }

  Result<> depth(const YAML::Node& node) {
    OPSPLIT_TRY(out_.depth, number(node, Deployment::max_depth));
    return {};
  }

  Result<> slots_per_client(const YAML::Node& node) {
    OPSPLIT_TRY(out_.slots_per_client, number(node, Deployment::max_depth));
    slots_line_ = line_of(node);
    return {};
  }

  Result<> objective(const YAML::Node& node) {
    const auto found = node.IsScalar() ? objective_from_string(node.Scalar()) : std::nullopt;
    if (!found) return wrong(node, "objective: must be latency or throughput", node);
    out_.objective = *found;
    return {};
  }

  Result<> client(const YAML::Node& node) {
    OPSPLIT_TRY(out_.client,
                texts(node, "a program and its arguments, such as [digits-classify, --data, .]"));
    return {};
  }

  Result<> operators(const YAML::Node& node) {
    if (node.IsNull()) return {};
    if (!node.IsMap())
      return wrong(node, "operators: must be names and settings, such as conv: {cores: 2}", node);
    for (const auto& entry : node) {
      const std::string op = entry.first.IsScalar() ? entry.first.Scalar() : std::string();
      if (!is_operator_name(op))
        return wrong(entry.first,
                     "operators: an operator's name must be 1 to 64 of a-z, 0-9, '_' and '-'",
                     entry.first);
      const std::string where = fmt::format("operators.{}", op);
      const auto [settings, is_new] = out_.operators.try_emplace(op);
      if (!is_new) return at_line(line_of(entry.first), "{} is there twice", where);
      if (!entry.second.IsMap() && !entry.second.IsNull())
        return wrong(entry.second, where + ": must be settings, such as {cores: 2}", entry.second);
      settings_ = &settings->second;
      settings_->line = line_of(entry.first);
      groups_.push_back({op, {}, {}});
      stream_ = {};
      if (entry.second.IsMap()) OPSPLIT_CHECK(keys(entry.second, where, operator_keys()));
      OPSPLIT_CHECK(on_gpu(where));
    }
    return {};
  }

  // What `gpu`, `stream` and `backend` of one operator say together.
  Result<> on_gpu(const std::string& where) {
    if (!settings_->gpu) {
      if (stream_.line == 0) return {};
      return at_line(stream_.line, "{}.stream: only with 'gpu': it is a GPU's stream", where);
    }
    settings_->gpu->priority = stream_.priority;
    if (runs_on_gpu(settings_->backend)) return {};
    return at_line(settings_->gpu->line,
                   "{}.gpu: backend {} runs on CPUs only so far: leave 'gpu' or 'backend' out",
                   where, to_string(settings_->backend));
  }

  Result<> cores(const YAML::Node& node) {
    constexpr std::string_view wanted = "a number of cores, or a list such as \"0,2-3\"";
    if (node.IsScalar() && (is_text(node) || is_quoted(node))) {
      auto cpus = parse_cpus(node.Scalar());
      if (!cpus) return wrong(node, fmt::format("{}: must be {}", where_, wanted), node);
      settings_->cores = std::move(*cpus);
      return {};
    }
    auto count = number(node, 8192);
    if (!count) return wrong(node, fmt::format("{}: must be {}", where_, wanted), node);
    settings_->cores = *count;
    return {};
  }

  Result<> instances(const YAML::Node& node) {
    OPSPLIT_TRY(settings_->instances, number(node, Deployment::max_instances));
    return {};
  }

  Result<> standby(const YAML::Node& node) {
    OPSPLIT_TRY(settings_->standby, number(node, Deployment::max_instances));
    return {};
  }

  Result<> hung_after(const YAML::Node& node) {
    OPSPLIT_TRY(const int seconds, number(node, Deployment::max_hung_after));
    settings_->hung_after = std::chrono::seconds(seconds);
    return {};
  }

  Result<> backend(const YAML::Node& node) {
    const auto found = node.IsScalar() ? backend_from_string(node.Scalar()) : std::nullopt;
    if (!found) return wrong(node, fmt::format("{}: must be {}", where_, backend_names()), node);
    settings_->backend = *found;
    settings_->backend_given = true;
    return {};
  }

  Result<> gpu(const YAML::Node& node) {
    std::string device;
    if (const auto number = whole_number(node, 0, max_gpus - 1))
      device = std::to_string(*number);
    else if (const auto uuid = ipc::parse_device_uuid(is_text(node) ? node.Scalar() : ""))
      device = to_string(*uuid);
    else
      return wrong(
          node,
          fmt::format("{}: must be a GPU as `opsplit doctor` lists them, by its number (0 to {}) "
                      "or its UUID (GPU-01234567-89ab-cdef-0123-456789abcdef)",
                      where_, max_gpus - 1),
          node);
    settings_->gpu = GpuRequest{device, std::nullopt, line_of(node)};
    return {};
  }

  Result<> stream(const YAML::Node& node) {
    if (!node.IsMap())
      return wrong(node, fmt::format("{}: must be settings, such as {{priority: high}}", where_),
                   node);
    stream_.line = line_of(node);
    const std::string where = where_;
    return keys(node, where, stream_keys());
  }

  Result<> priority(const YAML::Node& node) {
    stream_.priority =
        node.IsScalar() ? ipc::stream_priority_from_string(node.Scalar()) : std::nullopt;
    if (!stream_.priority)
      return wrong(node, fmt::format("{}: must be low, normal or high", where_), node);
    return {};
  }

  Result<> nodes(const YAML::Node& node) {
    OPSPLIT_TRY(groups_.back().nodes,
                texts(node, "a list of nodes, such as [conv1, fc1..softmax]"));
    return {};
  }

  Result<> ops(const YAML::Node& node) {
    OPSPLIT_TRY(groups_.back().op_types, texts(node, "a list of ONNX ops, such as [Conv, Gemm]"));
    return {};
  }

  // An operator that lists nodes makes the split one by hand; then all of them must.
  Result<> split_by_hand() {
    const auto lists = [](const auto& group) {
      return !group.nodes.empty() || !group.op_types.empty();
    };
    const auto first = std::find_if(groups_.begin(), groups_.end(), lists);
    if (first == groups_.end()) return {};
    if (split_line_ != 0)
      return at_line(out_.operators[first->op].line,
                     "operators.{}: lists its nodes, that is a split by hand: leave out 'split' "
                     "(line {}) or the nodes",
                     first->op, split_line_);
    const auto without = std::find_if_not(groups_.begin(), groups_.end(), lists);
    if (without != groups_.end())
      return at_line(out_.operators[without->op].line,
                     "operators.{}: must list its nodes or ops, as operators.{} does", without->op,
                     first->op);
    out_.split = graph::ByHand{std::move(groups_)};
    return {};
  }

  const std::filesystem::path& file_;
  Deployment out_;
  std::string where_;                         // of the value that is being read
  OperatorSettings* settings_ = nullptr;      // of the operator that is being read
  std::vector<graph::ByHand::Group> groups_;  // one per operator, in the file's order
  struct {
    std::optional<ipc::StreamPriority> priority;
    int line = 0;       // 0: not there
  } stream_;            // of the operator that is being read
  int split_line_ = 0;  // 0: not there
  int slots_line_ = 0;
};

}  // namespace

std::vector<std::string> deployment_keys() { return Reader::names(Reader::top_keys()); }
std::vector<std::string> operator_keys() { return Reader::names(Reader::operator_keys()); }

Result<Deployment> Deployment::parse(std::string_view text, const std::filesystem::path& file) {
  try {
    return Reader(file).read(text);
  } catch (const std::exception& problem) {  // yaml-cpp's; every known way to one is checked before
    return fail(ErrorCode::invalid_input, "{}: cannot be read: {}", file.native(),
                printable(problem.what()));
  }
}

}  // namespace opsplit::daemon
