// Sends requests to a running deployment and takes the answers, for `infer`, `run`, `bench` and `trace`.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/npy.hpp"
#include "ipc/client.hpp"

namespace opsplit::daemon::cli {

// Reads "--input x=a.npy" ..., by tensor name. Errors: a name given twice, a file that is no tensor.
Result<std::map<std::string, HostTensor>> read_inputs(const std::vector<std::string>& options);

// The tensors in the order of the client's inputs. Errors, before anything is sent: a name that the
// model does not have (the known ones are listed), one that is missing, another dtype or shape.
Result<std::vector<HostTensor>> match_inputs(const ipc::Client& client,
                                             std::map<std::string, HostTensor> inputs);

// Some tensors that the deployment takes, in the order of the client's inputs; the same every time.
std::vector<HostTensor> random_inputs(const ipc::Client& client, std::uint32_t seed = 1);

inline constexpr std::chrono::seconds request_timeout(300);

// A new request with the inputs in its slot, to be submitted.
Result<ipc::Request> filled_request(ipc::Client& client, const std::vector<HostTensor>& inputs);

// The same, sent off.
Result<ipc::Request> submit(ipc::Client& client, const std::vector<HostTensor>& inputs);

// Waits for the answer and copies it out.
Result<std::vector<HostTensor>> answer(ipc::Client& client, ipc::Request& request);

Result<> write_outputs(const ipc::Client& client, const std::vector<HostTensor>& outputs,
                       const std::filesystem::path& folder);

}  // namespace opsplit::daemon::cli
