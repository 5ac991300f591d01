// One error type for the whole project, carried by value: nothing in opsplit throws across a
// function boundary. A message is one line that says what, where and what to do.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace opsplit {

enum class ErrorCode {
  invalid_input,    // a file, an argument or a tensor is not what it must be
  unsupported,      // valid, but nothing that opsplit does
  not_found,        // no such file, deployment, operator, tensor
  already_exists,   // the name is taken
  refused,          // permission, version or peer mismatch; a second daemon or broker
  limit_exceeded,   // does not fit into a limit that the message names
  unavailable,      // not running, or busy beyond the caller's deadline
  operator_failed,  // a request ended in `failed`; the message names the operator
  epoch_lost,       // the epoch ended under the request, and there is no next one
  timed_out,        // the caller's deadline passed
  system,           // a system call failed; the message holds errno's text
};

struct Error {
  ErrorCode code;
  std::string message;
};

template <class T = void>
using Result = tl::expected<T, Error>;

template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// Appends ": " and errno's text.
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail_errno(int error_number, fmt::format_string<Args...> format,
                                               Args&&... args) {
  return tl::unexpected(Error{
      ErrorCode::system, fmt::format(format, std::forward<Args>(args)...) + ": " +
                             std::error_code(error_number, std::generic_category()).message()});
}

// The same error with its place put before it ("digits.yaml: ...").
[[nodiscard]] inline tl::unexpected<Error> within(std::string_view where, Error error) {
  return tl::unexpected(Error{error.code, fmt::format("{}: {}", where, error.message)});
}

}  // namespace opsplit

// Returns the error of a Result from the enclosing function, else goes on.
#define OPSPLIT_CHECK(expression)                                \
  do {                                                           \
    if (auto opsplit_result_ = (expression); !opsplit_result_)   \
      return tl::unexpected(std::move(opsplit_result_).error()); \
  } while (false)

// OPSPLIT_TRY(auto value, expression): binds the value of a Result or returns its error.
#define OPSPLIT_CONCAT_INNER(a, b) a##b
#define OPSPLIT_CONCAT(a, b) OPSPLIT_CONCAT_INNER(a, b)
#define OPSPLIT_TRY(declaration, expression) \
  OPSPLIT_TRY_INNER(OPSPLIT_CONCAT(opsplit_result_, __LINE__), declaration, expression)
#define OPSPLIT_TRY_INNER(result, declaration, expression)       \
  auto result = (expression);                                    \
  if (!result) return tl::unexpected(std::move(result).error()); \
  declaration = std::move(*result)
