// The stream of an operator on a GPU, and how the streams of whoever takes its tensors by DLPack are tied to it:
//
//   operator's   | what gives the inputs |----event---.                            .---> waits, done
//   consumer's                                        '--> waits | the work of the function |--event
//
// So a function whose work goes to another stream than the operator's, the framework's default one, say, is no wrong
// answer: its task is done once that is.
#pragma once

#include <optional>
#include <vector>

#include "base/error.hpp"
#include "ipc/device_driver.hpp"

namespace opsplit::python {

// One thread. What has been closed refuses to hand over.
class OperatorStream {
 public:
  // Both live until close().
  OperatorStream(ipc::DeviceDriver& driver, ipc::DeviceStream stream);
  OperatorStream(const OperatorStream&) = delete;
  OperatorStream& operator=(const OperatorStream&) = delete;
  ~OperatorStream();

  [[nodiscard]] int device() const { return device_; }  // as this process counts
  [[nodiscard]] ipc::DeviceStream number() const { return stream_; }

  // What the consumer's stream is given from now on runs after all that the operator's holds now.
  Result<> hand_over(ipc::DeviceStream consumer);
  // The operator's stream waits for all that those which were handed something since the last time hold now. Error:
  // one of them is no stream any more.
  Result<> take_back();

  void close();

 private:
  Result<> order(ipc::DeviceStream first, ipc::DeviceStream second);

  ipc::DeviceDriver* driver_;  // null: closed
  const ipc::DeviceStream stream_;
  const int device_;
  std::optional<ipc::DeviceEvent>
      event_;  // a wait means what was recorded before it: one is enough
  std::vector<ipc::DeviceStream> consumers_;
};

}  // namespace opsplit::python
