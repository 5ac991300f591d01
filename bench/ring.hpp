// A ring of processes that pass a token, one lap after the other: the floors and raw iceoryx. A Link
// is what the token travels on:
//
//   struct Link {
//     struct Memory {};                                 shared by all members, zeroed
//     static Result<std::unique_ptr<Link>> open(const Setting&, int index, Memory&);
//     void send();                                      to the next member
//     void receive();                                   from the one before; waits
//   };
#pragma once

#include <memory>

#include "bench/contender.hpp"
#include "bench/crew.hpp"

namespace opsplit::bench {

template <class Link>
class Ring final : public Contender {
 public:
  static Result<std::unique_ptr<Contender>> start(const Setting& setting) {
    std::unique_ptr<Ring> ring(new Ring(setting));
    OPSPLIT_TRY(ring->crew_, Crew::start(setting, [&ring](int index, Control& control) {
                  return ring->run_member(index, control);
                }));
    return ring;
  }

  // The first member does a whole request by itself; we sleep meanwhile.
  Result<double> run() override {
    Control& control = crew_->control();
    const std::uint32_t done = control.done.load();
    control.go.fetch_add(1);
    system_futex.wake(control.go, 1);
    OPSPLIT_CHECK(crew_->wait(control.done, done));
    return static_cast<double>(control.end_ns.load() - control.begin_ns.load()) /
           setting_.timed_hops;
  }

 private:
  explicit Ring(const Setting& setting) : setting_(setting) {}

  Result<> run_member(int index, Control& control) {
    OPSPLIT_TRY(const auto link, Link::open(setting_, index, *memory_));
    Crew::join(control);
    if (index == 0) {
      lead(*link, control);
      return {};
    }
    while (true) {
      link->receive();
      const bool quit = control.quit.load(std::memory_order_relaxed) != 0;
      if (!quit || index + 1 < setting_.processes) link->send();
      if (quit) return {};
    }
  }

  void lead(Link& link, Control& control) {
    const auto laps = [&](int hops) {
      for (int hop = 0; hop < hops; hop += setting_.processes) {
        link.send();
        link.receive();
      }
    };
    for (std::uint32_t asked = 0;; ++asked) {
      while (control.go.load() == asked)
        system_futex.wait(control.go, asked, system_futex.now_ns() + 1'000'000'000);
      if (control.quit.load() != 0) break;
      laps(setting_.warm_hops);
      control.begin_ns.store(system_futex.now_ns());
      laps(setting_.timed_hops);
      control.end_ns.store(system_futex.now_ns());
      control.done.fetch_add(1);
      system_futex.wake(control.done, 1);
    }
    link.send();
  }

  Setting setting_;
  Shared<typename Link::Memory> memory_;
  std::unique_ptr<Crew> crew_;
};

}  // namespace opsplit::bench
