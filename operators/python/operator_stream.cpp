#include "operators/python/operator_stream.hpp"

#include <algorithm>
#include <utility>

namespace opsplit::python {

OperatorStream::OperatorStream(ipc::DeviceDriver& driver, ipc::DeviceStream stream)
    : driver_(&driver), stream_(stream), device_(driver.ordinal()) {}

OperatorStream::~OperatorStream() { close(); }

void OperatorStream::close() {
  if (driver_ != nullptr && event_) static_cast<void>(driver_->destroy_event(*event_));
  driver_ = nullptr;
}

Result<> OperatorStream::hand_over(ipc::DeviceStream consumer) {
  if (driver_ == nullptr)
    return fail(ErrorCode::unavailable, "the operator of this tensor has ended");
  if (consumer == stream_) return {};
  OPSPLIT_CHECK(order(stream_, consumer));
  if (std::ranges::find(consumers_, consumer) == consumers_.end()) consumers_.push_back(consumer);
  return {};
}

Result<> OperatorStream::take_back() {
  Result<> all;
  for (const ipc::DeviceStream consumer : std::exchange(consumers_, {}))
    if (const auto ordered = order(consumer, stream_); !ordered) all = ordered;
  return all;
}

Result<> OperatorStream::order(ipc::DeviceStream first, ipc::DeviceStream second) {
  if (!event_) {
    OPSPLIT_TRY(event_, driver_->create_event());
  }
  OPSPLIT_CHECK(driver_->record(*event_, first));
  return driver_->wait(second, *event_);
}

}  // namespace opsplit::python
