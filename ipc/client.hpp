// The client library: connect to a running deployment, submit requests, get answers.
//
//   auto client = Client::connect({.socket = "...", .deployment = "digits"});
//   auto request = (*client)->begin(1s);
//   std::memcpy(request->input(0).data(), image, request->input(0).size());  // in place
//   request->submit();
//   request->wait(5s);
//   auto probabilities = request->output(0);                                 // in place
//
// Many requests may be in flight, from several threads; each gets its own answer. Requests go on
// while no opsplitd runs, and the next one learns of the client. A client outlives epochs: when the
// broker dies, requests under way are answered where they are, and the next begin() attaches to the next
// epoch. What cannot be answered any more in its epoch is sent again in the next one; without a next one
// it ends in `epoch_lost`.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/tensor_type.hpp"
#include "ipc/awake.hpp"
#include "ipc/session.hpp"

namespace opsplit::ipc {

struct TensorSpec {
  std::string name;
  TensorType type;
  bool varies = false;  // an output whose sizes follow from data: the type has the largest ones
};

// An output where it lies, row-major; byte_size(type) bytes.
struct OutputTensor {
  TensorType type;
  std::span<const std::byte> bytes;
};

class Connection;

// One inference. Holds a slot from begin() until it is destroyed; what output() returns points into the
// slot and is valid that long, what input() returns until submit(). Move-only; not thread safe in
// itself, but different requests may be used on different threads, also after the client's end.
// Destroying one that has not been answered cancels it.
class Request {
 public:
  Request(Request&& other) noexcept;
  Request& operator=(Request&& other) noexcept;
  ~Request();

  // The place to write input `index` (in the model's order) into, row-major. Before submit().
  [[nodiscard]] std::span<std::byte> input(std::size_t index);
  // Sends it off. Every input must have been written: what lay there before is sent otherwise.
  Result<> submit();
  // The answer, or the failure, is there.
  [[nodiscard]] bool ready() const;
  // Waits for it. Errors: timed_out (it stays in flight: wait again, or destroy it), operator_failed
  // (names the operator and its last words), epoch_lost.
  Result<> wait(std::chrono::nanoseconds timeout);
  // Output `index`, after a successful wait(). Errors: its header contradicts the plan.
  [[nodiscard]] Result<OutputTensor> output(std::size_t index) const;
  // After an answer: sums over the tasks of this request.
  [[nodiscard]] std::uint64_t bytes_copied() const;
  // Keeps what input() and output() return mapped. A request that is sent again gets another one.
  [[nodiscard]] std::shared_ptr<const void> mapping() const { return session_; }
  // The session and slot that it runs in, for measurements.
  [[nodiscard]] Session& session() const { return *session_; }
  [[nodiscard]] SlotHold hold() const { return hold_; }

 private:
  friend class Connection;
  Request(std::shared_ptr<Session> session, SlotHold hold, std::shared_ptr<Connection> connection);
  bool send();
  Result<> send_again(Error reason, std::uint64_t deadline_ns);
  Result<> wait_until(std::uint64_t deadline_ns);
  [[nodiscard]] Presence presence() const;
  void give_back();
  void count();

  std::shared_ptr<Session> session_;  // null: moved from
  SlotHold hold_;
  std::shared_ptr<Connection> connection_;
  bool counted_ = false;  // as answered
};

// Thread safe.
class Client {
 public:
  struct Options {
    std::string socket;  // opsplitd's
    std::string deployment;
    std::chrono::nanoseconds timeout = std::chrono::seconds(10);  // to connect and to attach
  };
  static Result<std::unique_ptr<Client>> connect(Options options);
  ~Client();

  [[nodiscard]] const std::vector<TensorSpec>& inputs() const { return inputs_; }
  [[nodiscard]] const std::vector<TensorSpec>& outputs() const { return outputs_; }

  // A slot for a new request; waits for a free one at the most so long (0: not at all). Errors:
  // unavailable (all slots are taken), and those of attaching if a new epoch has to be joined.
  Result<Request> begin(std::chrono::nanoseconds wait_for_slot);

 private:
  explicit Client(std::shared_ptr<Connection> connection);

  std::shared_ptr<Connection> connection_;
  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
};

}  // namespace opsplit::ipc
