// ONNX's own rules for types, in a process of their own: libonnx trusts what it reads, and a model must not be
// able to end opsplitd.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::daemon {

// Started with the first question: a model of ops that opsplit knows costs none. Whoever dies of a question is
// replaced for the next one. Not to be shared between threads.
class OnnxRulesProcess {
 public:
  // opsplit-onnx-rules, wherever it is.
  explicit OnnxRulesProcess(std::filesystem::path program) : program_(std::move(program)) {}
  OnnxRulesProcess(const OnnxRulesProcess&) = delete;
  OnnxRulesProcess& operator=(const OnnxRulesProcess&) = delete;
  ~OnnxRulesProcess() { (void)end(); }

  // As graph::infer_by_onnx(). Errors, besides: it crashed, took too long or too much memory (operator_failed), all
  // questions together took too long (limit_exceeded), or it could not be started.
  Result<std::string> ask(const std::string& model);

 private:
  Result<> start();
  // Kills it, and says how it ended.
  std::string end();

  std::filesystem::path program_;
  FileDescriptor socket_;
  pid_t child_ = -1;
  Clock::duration spent_{};  // waiting for answers
};

}  // namespace opsplit::daemon
