#include "operators/python/client.hpp"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/default_folder.hpp"
#include "ipc/client.hpp"
#include "ipc/message_socket.hpp"
#include "operators/python/errors.hpp"
#include "operators/python/tensor.hpp"

namespace opsplit::python {
namespace {

using std::chrono::nanoseconds;

// Between two looks whether a signal wants a Python handler: Ctrl-C, above all.
constexpr nanoseconds signals_look = std::chrono::milliseconds(100);

nanoseconds from_seconds(double seconds) {
  constexpr double longest = 1e9;  // 30 years
  if (std::isnan(seconds)) throw py::value_error("a timeout is a number of seconds");
  return nanoseconds(static_cast<std::int64_t>(std::clamp(seconds, 0.0, longest) * 1e9));
}

// A request and the slot that it holds, as long as somebody uses it or its memory.
struct HeldRequest {
  explicit HeldRequest(ipc::Request taken) : request(std::move(taken)) {}
  std::mutex mutex;  // one thread at a time: who waits for it has given up the GIL
  ipc::Request request;
};

// What keeps a tensor's bytes where they are: the slot, and the mapping that it lies in (a request that is
// sent again moves to another one).
struct HeldMemory {
  std::shared_ptr<HeldRequest> slot;
  std::shared_ptr<const void> mapping;
};

class Request {
 public:
  Request(ipc::Request request, const ipc::Client& client)
      : held_(std::make_shared<HeldRequest>(std::move(request))),
        inputs_(client.inputs()),
        outputs_(client.outputs()) {}

  std::unique_ptr<Tensor> input(std::size_t index) {
    HeldRequest& held = this->held();
    if (submitted_) wrong("its inputs may be written until submit()");
    if (index >= inputs_.size()) throw py::index_error("there is no such input");
    return tensor(inputs_[index].type, held.request.input(index).data(), true);
  }
  void submit() {
    HeldRequest& held = this->held();
    if (submitted_) wrong("it has been submitted already");
    submitted_ = true;
    value_or_raise(without_gil(held, [&] { return held.request.submit(); }));
  }
  bool ready() {
    HeldRequest& held = this->held();
    const std::unique_lock lock(held.mutex, std::try_to_lock);
    return lock && held.request.ready();
  }
  void wait(double seconds) {
    const std::shared_ptr<HeldRequest> held = held_;  // another thread may close it meanwhile
    (void)this->held();
    if (!submitted_) wrong("it has not been submitted");
    const nanoseconds timeout = from_seconds(seconds);
    const Deadline deadline = Clock::now() + timeout;
    while (true) {
      const nanoseconds left = std::max<nanoseconds>(deadline - Clock::now(), nanoseconds(0));
      const Result<> answered =
          without_gil(*held, [&] { return held->request.wait(std::min(left, signals_look)); });
      if (answered) break;
      if (answered.error().code != ErrorCode::timed_out) raise(answered.error());
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (Clock::now() >= deadline)
        raise(
            {ErrorCode::timed_out,
             fmt::format("deployment '{}': no answer within {} ms",
                         held->request.session().attachment().deployment,
                         std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count())});
    }
    answered_ = true;
  }
  std::unique_ptr<Tensor> output(std::size_t index) {
    HeldRequest& held = this->held();
    if (!answered_) wrong("its outputs are there after wait()");
    if (index >= outputs_.size()) throw py::index_error("there is no such output");
    const ipc::OutputTensor output = value_or_raise(held.request.output(index));
    return tensor(output.type, const_cast<std::byte*>(output.bytes.data()), false);
  }
  std::uint64_t bytes_copied() {
    HeldRequest& held = this->held();
    if (!answered_) wrong("what was copied is known after wait()");
    return held.request.bytes_copied();
  }
  void close() { held_.reset(); }

 private:
  [[noreturn]] static void wrong(const char* what) {
    raise({ErrorCode::invalid_input, fmt::format("a request was used wrongly: {}", what)});
  }
  HeldRequest& held() const {
    if (!held_) wrong("it has been closed");
    return *held_;
  }
  template <class Work>
  static Result<> without_gil(HeldRequest& held, Work work) {
    const py::gil_scoped_release no_gil;
    const std::lock_guard lock(held.mutex);
    return work();
  }
  std::unique_ptr<Tensor> tensor(const TensorType& type, std::byte* data, bool writable) {
    auto memory = std::make_shared<HeldMemory>(HeldMemory{held_, held_->request.mapping()});
    return std::make_unique<Tensor>(type, data, writable, std::move(memory));
  }

  std::shared_ptr<HeldRequest> held_;
  std::vector<ipc::TensorSpec> inputs_, outputs_;
  bool submitted_ = false, answered_ = false;
};

std::unique_ptr<ipc::Client> connect(const std::string& deployment, const std::string& socket,
                                     double timeout) {
  const nanoseconds limit = from_seconds(timeout);
  Result<std::unique_ptr<ipc::Client>> client;
  {
    const py::gil_scoped_release no_gil;
    client = ipc::Client::connect({.socket = socket, .deployment = deployment, .timeout = limit});
  }
  return value_or_raise(std::move(client));
}

std::unique_ptr<Request> begin(ipc::Client& client, double wait_for_slot) {
  const Deadline deadline = Clock::now() + from_seconds(wait_for_slot);
  while (true) {
    Result<ipc::Request> request = fail(ErrorCode::unavailable, "");
    {
      const py::gil_scoped_release no_gil;
      request = client.begin(
          std::clamp<nanoseconds>(deadline - Clock::now(), nanoseconds(0), signals_look));
    }
    if (request) return std::make_unique<Request>(std::move(*request), client);
    if (request.error().code != ErrorCode::unavailable || Clock::now() >= deadline)
      raise(request.error());
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

// opsplitd, asked as the commands ask it. What is temporary ends with the connection.
class Control {
 public:
  Control(const std::string& path, double timeout)
      : socket_(value_or_raise(
            ipc::MessageSocket::connect(path, Clock::now() + from_seconds(timeout)))) {}

  // The last reply to a request; JSON both. What it says of its progress is passed over.
  std::string call(const std::string& request, double timeout) {
    auto message = nlohmann::json::parse(request);
    message["version"] = OPSPLIT_VERSION;
    const Deadline deadline = Clock::now() + from_seconds(timeout);
    Result<nlohmann::json> reply;
    {
      const py::gil_scoped_release no_gil;
      reply = socket_.call(message, deadline);
      while (reply && reply->contains("progress")) reply = socket_.receive_reply(deadline);
    }
    return value_or_raise(std::move(reply)).dump();
  }

  // Whether opsplitd has ended: its connections end with it.
  [[nodiscard]] bool hung_up() const {
    pollfd look{socket_.fd(), POLLRDHUP, 0};
    return ::poll(&look, 1, 0) > 0;
  }

 private:
  ipc::MessageSocket socket_;
};

py::tuple described_specs(const std::vector<ipc::TensorSpec>& specs) {
  py::tuple result(specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i)
    result[i] = py::make_tuple(specs[i].name, numpy_dtype(specs[i].type.dtype),
                               tuple_of(specs[i].type.shape), specs[i].varies);
  return result;
}

}  // namespace

void bind_client(py::module_& module) {
  module.def("default_socket", [] { return (default_folder() / "opsplitd.sock").string(); });
  py::class_<Control>(module, "Control")
      .def(py::init<const std::string&, double>(), py::arg("socket"), py::arg("timeout"))
      .def("call", &Control::call, py::arg("request"), py::arg("timeout"))
      .def("hung_up", &Control::hung_up);
  py::class_<ipc::Client>(module, "Client")
      .def(py::init(&connect), py::arg("deployment"), py::arg("socket"), py::arg("timeout"))
      .def_property_readonly("inputs",
                             [](const ipc::Client& self) { return described_specs(self.inputs()); })
      .def_property_readonly(
          "outputs", [](const ipc::Client& self) { return described_specs(self.outputs()); })
      .def("begin", &begin, py::arg("wait_for_slot"));
  py::class_<Request>(module, "Request")
      .def("input", &Request::input, py::arg("index"))
      .def("submit", &Request::submit)
      .def("ready", &Request::ready)
      .def("wait", &Request::wait, py::arg("timeout"))
      .def("output", &Request::output, py::arg("index"))
      .def("close", &Request::close)
      .def_property_readonly("bytes_copied", &Request::bytes_copied);
}

}  // namespace opsplit::python
