#include "daemon/deployment.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/system.hpp"
#include "daemon/nearest.hpp"

namespace opsplit::daemon {
namespace {

constexpr std::size_t max_name = 32;
constexpr std::size_t max_file = 1u << 20;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// "LeNet-5 (v2).onnx" becomes "lenet-5--v2-".
std::string name_after(const std::filesystem::path& model) {
  std::string name = model.stem().string().substr(0, max_name);
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!is_name_character(c)) c = '-';
  }
  return name.empty() ? "model" : name;
}

Result<> must_be_a_file(const std::filesystem::path& path) {
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  if (std::filesystem::is_regular_file(status)) return {};
  if (std::filesystem::exists(status))
    return fail(ErrorCode::invalid_input, "{} is not a plain file", path.native());
  if (status.type() == std::filesystem::file_type::not_found)
    return fail(ErrorCode::not_found, "there is no file {}", path.native());
  return fail(ErrorCode::system, "{}: {}", path.native(), problem.message());
}

}  // namespace

bool is_deployment_name(std::string_view name) {
  return !name.empty() && name.size() <= max_name &&
         std::all_of(name.begin(), name.end(), is_name_character);
}

Deployment Deployment::for_model(const std::filesystem::path& model) {
  Deployment deployment;
  deployment.model = model;
  deployment.name = name_after(model);
  return deployment;
}

Result<Deployment> Deployment::open(const std::filesystem::path& path) {
  OPSPLIT_CHECK(must_be_a_file(path));
  if (path.extension() == ".onnx") return for_model(path);
  if (path.extension() != ".yaml" && path.extension() != ".yml")
    return fail(ErrorCode::invalid_input,
                "{} is neither a model (.onnx) nor a deployment file (.yaml, .yml)", path.native());
  OPSPLIT_TRY(const std::string text, read_file(path, max_file));
  OPSPLIT_TRY(Deployment deployment, parse(text, path));
  if (auto found = must_be_a_file(deployment.model); !found)
    return within(fmt::format("{}: model", path.native()), std::move(found).error());
  return deployment;
}

Result<Deployment> Deployment::open(const Target& target) {
  OPSPLIT_TRY(Deployment deployment, open(target.path));
  if (!target.split.empty()) OPSPLIT_CHECK(deployment.set_split(target.split));
  if (!target.name.empty()) OPSPLIT_CHECK(deployment.set_name(target.name));
  for (const std::string& shape : target.shapes) OPSPLIT_CHECK(deployment.set_shape(shape));
  deployment.attach = target.attach;
  return deployment;
}

Result<> Deployment::set_split(std::string_view text) {
  OPSPLIT_TRY(graph::SplitSpec wanted, graph::parse_split(text));
  if (graph::to_string(wanted) != graph::to_string(split)) operators.clear();
  split = std::move(wanted);
  return {};
}

Result<> Deployment::set_name(std::string_view text) {
  if (!is_deployment_name(text))
    return fail(ErrorCode::invalid_input, "name '{}': must be 1 to {} of a-z, 0-9, '_' and '-'",
                text, max_name);
  name = text;
  return {};
}

Result<> Deployment::set_shape(std::string_view text) {
  const auto refuse = [text] {
    return fail(ErrorCode::invalid_input,
                "shape '{}': must be TENSOR=SIZES, sizes at least 1, e.g. image=1,3,736,736", text);
  };
  const std::size_t equals = text.rfind('=');  // names may hold one, sizes do not
  if (equals == std::string_view::npos || equals == 0) return refuse();
  std::vector<std::int64_t> dims;
  const char* at = text.data() + equals + 1;
  const char* const end = text.data() + text.size();
  while (at != end || !dims.empty()) {
    std::int64_t dim = 0;
    const auto [next, problem] = std::from_chars(at, end, dim);
    if (problem != std::errc{} || dim < 1) return refuse();
    dims.push_back(dim);
    if (next == end) break;
    if (*next != ',') return refuse();
    at = next + 1;
  }
  OPSPLIT_TRY(const Shape shape, Shape::from(dims));
  OPSPLIT_CHECK(shape.elements());
  shapes.insert_or_assign(std::string(text.substr(0, equals)), shape);
  return {};
}

Result<> Deployment::check_operators(std::span<const std::string> planned) const {
  for (const auto& [op, settings] : operators)
    if (std::find(planned.begin(), planned.end(), op) == planned.end())
      return fail(ErrorCode::not_found,
                  "{}:{}: operators: split {} has no operator '{}'{} (`opsplit plan` lists them)",
                  file.native(), settings.line, graph::to_string(split), op,
                  did_you_mean(op, planned));
  return {};
}

}  // namespace opsplit::daemon
