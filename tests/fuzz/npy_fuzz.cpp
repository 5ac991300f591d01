// .npy files, as `opsplit infer` reads them. What is read is written and read again: the same.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "daemon/npy.hpp"

using namespace opsplit;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto tensor = daemon::parse_npy(std::as_bytes(std::span(data, size)));
  if (!tensor) return 0;
  const auto header = daemon::npy_header(tensor->type);
  if (!header) std::abort();
  std::vector<std::byte> again(header->size() + tensor->bytes.size());
  std::memcpy(again.data(), header->data(), header->size());
  if (!tensor->bytes.empty())
    std::memcpy(again.data() + header->size(), tensor->bytes.data(), tensor->bytes.size());
  const auto read_again = daemon::parse_npy(again);
  if (!read_again || *read_again != *tensor) std::abort();
  return 0;
}
