#include "daemon/cli/inference.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "daemon/tensor_file.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto slot_timeout = 60s;

HostTensor random_tensor(const TensorType& type, std::mt19937& random) {
  HostTensor tensor{type, std::vector<std::byte>(byte_size(type).value())};
  if (type.dtype == float32) {
    std::normal_distribution<float> normal;
    auto* values = reinterpret_cast<float*>(tensor.bytes.data());
    std::generate_n(values, tensor.bytes.size() / sizeof(float), [&] { return normal(random); });
  }
  return tensor;  // others stay zero: an index of 0 is always valid
}

std::vector<std::string> names(const std::vector<ipc::TensorSpec>& specs) {
  std::vector<std::string> result;
  for (const ipc::TensorSpec& spec : specs) result.push_back(spec.name);
  return result;
}

}  // namespace

Result<std::map<std::string, HostTensor>> read_inputs(const std::vector<std::string>& options) {
  std::map<std::string, HostTensor> inputs;
  for (const std::string& option : options) {
    OPSPLIT_TRY(const NamedFile named, parse_named_file(option));
    OPSPLIT_TRY(HostTensor tensor, read_tensor(named.file));
    if (!inputs.emplace(named.tensor, std::move(tensor)).second)
      return fail(ErrorCode::invalid_input, "input '{}' is given twice", named.tensor);
  }
  return inputs;
}

Result<std::vector<HostTensor>> match_inputs(const ipc::Client& client,
                                             std::map<std::string, HostTensor> inputs) {
  std::vector<HostTensor> ordered;
  for (const ipc::TensorSpec& spec : client.inputs()) {
    const auto found = inputs.find(spec.name);
    if (found == inputs.end())
      return fail(ErrorCode::invalid_input, "input '{}' ({}) is missing: --input {}=FILE",
                  spec.name, to_string(spec.type), spec.name);
    if (found->second.type != spec.type)
      return fail(ErrorCode::invalid_input, "input '{}' is {}, the deployment takes {}", spec.name,
                  to_string(found->second.type), to_string(spec.type));
    ordered.push_back(std::move(found->second));
    inputs.erase(found);
  }
  if (!inputs.empty())
    return fail(ErrorCode::invalid_input, "the model has no input '{}', it has: {}",
                inputs.begin()->first, fmt::join(names(client.inputs()), ", "));
  return ordered;
}

std::vector<HostTensor> random_inputs(const ipc::Client& client, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<HostTensor> inputs;
  inputs.reserve(client.inputs().size());
  for (const ipc::TensorSpec& spec : client.inputs())
    inputs.push_back(random_tensor(spec.type, random));
  return inputs;
}

Result<ipc::Request> filled_request(ipc::Client& client, const std::vector<HostTensor>& inputs) {
  OPSPLIT_TRY(ipc::Request request, client.begin(slot_timeout));
  for (std::size_t i = 0; i < inputs.size(); ++i)
    std::memcpy(request.input(i).data(), inputs[i].bytes.data(), inputs[i].bytes.size());
  return request;
}

Result<ipc::Request> submit(ipc::Client& client, const std::vector<HostTensor>& inputs) {
  OPSPLIT_TRY(ipc::Request request, filled_request(client, inputs));
  OPSPLIT_CHECK(request.submit());
  return request;
}

Result<std::vector<HostTensor>> answer(ipc::Client& client, ipc::Request& request) {
  OPSPLIT_CHECK(request.wait(request_timeout));
  std::vector<HostTensor> outputs;
  for (std::size_t i = 0; i < client.outputs().size(); ++i) {
    OPSPLIT_TRY(const ipc::OutputTensor output, request.output(i));
    outputs.push_back({output.type, {output.bytes.begin(), output.bytes.end()}});
  }
  return outputs;
}

Result<> write_outputs(const ipc::Client& client, const std::vector<HostTensor>& outputs,
                       const std::filesystem::path& folder) {
  const std::vector<std::string> tensors = names(client.outputs());
  OPSPLIT_TRY(const std::vector<std::string> files, output_files(tensors));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(error.value(), "{}", folder.string());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    OPSPLIT_CHECK(write_npy(folder / files[i], outputs[i].type, outputs[i].bytes));
    fmt::print("{}: {} -> {}\n", tensors[i], to_string(outputs[i].type),
               (folder / files[i]).string());
  }
  return {};
}

}  // namespace opsplit::daemon::cli
