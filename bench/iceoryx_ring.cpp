#include "bench/iceoryx_ring.hpp"

#include <unistd.h>

#include <iostream>

#include "base/system.hpp"
#include "bench/ring.hpp"
#include "iceoryx_posh/popo/untyped_publisher.hpp"
#include "iceoryx_posh/popo/untyped_subscriber.hpp"
#include "iceoryx_posh/popo/wait_set.hpp"
#include "iceoryx_posh/runtime/posh_runtime.hpp"
#include "ipc/iceoryx_runtime.hpp"

namespace opsplit::bench {
namespace {

constexpr std::uint64_t page = 4096;
// Two pages apart: iceoryx takes the smallest pool that fits, and that must be the member's own.
constexpr std::uint64_t pool_spacing = 2 * page;

std::uint64_t pool_of(std::uint64_t payload, int member) {
  return (payload + page - 1) / page * page + static_cast<std::uint64_t>(member) * pool_spacing;
}

// Each ring has a name of its own: members of the last one may still be listening, as far as RouDi
// knows, and would be sent the chunk for good.
int ring_number = 0;

iox::capro::ServiceDescription service(int member) {
  const auto text = [](int number) {
    return iox::capro::IdString_t(iox::cxx::TruncateToCapacity, std::to_string(number));
  };
  return {"hop", text(ring_number), text(member)};
}

iox::popo::PublisherOptions without_history() {
  iox::popo::PublisherOptions options;
  options.historyCapacity = 0;
  return options;
}

class IceoryxLink {
 public:
  struct Memory {};

  IceoryxLink(const Setting& setting, int index)
      : payload_(setting.payload),
        touched_(setting.touched),
        chunk_bytes_(static_cast<std::uint32_t>(pool_of(setting.payload, index))),
        publisher_(service(index), without_history()),
        subscriber_(service((index + setting.processes - 1) % setting.processes)) {}

  // Waits until the member before us publishes, the next one listens, and our pool's chunk is back
  // from the ring that used it last.
  Result<> connect() {
    const Deadline deadline = Clock::now() + std::chrono::seconds(10);
    while (Clock::now() < deadline) {
      if (publisher_.hasSubscribers() &&
          subscriber_.getSubscriptionState() == iox::SubscribeState::SUBSCRIBED) {
        if (auto chunk = publisher_.loan(chunk_bytes_); !chunk.has_error()) {
          publisher_.release(chunk.value());
          return {};
        }
      }
      ::usleep(2000);
    }
    return fail(ErrorCode::timed_out, "iceoryx does not connect the ring");
  }

  void send() {
    auto chunk = publisher_.loan(chunk_bytes_);
    if (chunk.has_error()) ::_exit(1);  // the benchmark sees that we have ended
    if (touched_) write_all({static_cast<std::byte*>(chunk.value()), payload_});
    publisher_.publish(chunk.value());
  }

 protected:
  bool try_receive() {
    auto chunk = subscriber_.take();
    if (chunk.has_error()) return false;
    if (touched_) read_all({static_cast<const std::byte*>(chunk.value()), payload_});
    subscriber_.release(chunk.value());
    return true;
  }
  iox::popo::UntypedSubscriber& subscriber() { return subscriber_; }

 private:
  std::uint64_t payload_;
  bool touched_;
  std::uint32_t chunk_bytes_;
  iox::popo::UntypedPublisher publisher_;
  iox::popo::UntypedSubscriber subscriber_;
};

template <class Link>
Result<std::unique_ptr<Link>> open_link(const Setting& setting, int index) {
  ipc::tame_iceoryx();
  std::cerr.rdbuf(nullptr);  // it complains of the full pool that connect() waits for
  const auto name = fmt::format("hop.{}", ::getpid());
  iox::runtime::PoshRuntime::initRuntime({iox::cxx::TruncateToCapacity, name});
  auto link = std::make_unique<Link>(setting, index);
  OPSPLIT_CHECK(link->connect());
  return link;
}

class PollingLink final : public IceoryxLink {
 public:
  using IceoryxLink::IceoryxLink;
  static Result<std::unique_ptr<PollingLink>> open(const Setting& setting, int index, Memory&) {
    return open_link<PollingLink>(setting, index);
  }
  void receive() {
    while (!try_receive()) {
    }
  }
};

class WaitSetLink final : public IceoryxLink {
 public:
  WaitSetLink(const Setting& setting, int index) : IceoryxLink(setting, index) {
    waitset_.attachState(subscriber(), iox::popo::SubscriberState::HAS_DATA).or_else([](auto) {
      ::_exit(1);
    });
  }
  static Result<std::unique_ptr<WaitSetLink>> open(const Setting& setting, int index, Memory&) {
    return open_link<WaitSetLink>(setting, index);
  }
  void receive() {
    do waitset_.wait();
    while (!try_receive());
  }

 private:
  iox::popo::WaitSet<1> waitset_;
};

}  // namespace

std::vector<std::uint64_t> iceoryx_pools(const Setting& setting) {
  std::vector<std::uint64_t> pools;
  for (int member = 0; member < setting.processes; ++member)
    pools.push_back(pool_of(setting.payload, member));
  return pools;
}

Result<std::unique_ptr<Contender>> start_iceoryx_polling(const Setting& setting) {
  ++ring_number;
  return Ring<PollingLink>::start(setting);
}

Result<std::unique_ptr<Contender>> start_iceoryx_waitset(const Setting& setting) {
  ++ring_number;
  return Ring<WaitSetLink>::start(setting);
}

}  // namespace opsplit::bench
