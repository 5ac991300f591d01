// A ring of processes that pass a token, one lap after the other: the floors and raw iceoryx. A Link
// is what the token travels on:
//
//   struct Link {
//     struct Memory {};                                 shared by all members, zeroed
//     static Result<std::unique_ptr<Link>> open(const Setting&, int index, Memory&);
//     void send();                                      to the next member
//     void receive();                                   from the one before; waits
//   };
//
// The link of a server that is called back, rather than calling, has a serve() as well: it answers
// all that comes, and returns once it has answered after `quit`.
//
// What they throw, as the libraries below them do, ends the member with that message.
#pragma once

#include <exception>
#include <memory>

#include "bench/contender.hpp"
#include "bench/crew.hpp"

namespace opsplit::bench {

template <class Link>
class Ring final : public Contender {
 public:
  static Result<std::unique_ptr<Contender>> start(const Setting& setting) {
    return start_with(setting);
  }
  // `memory`: what the links' memory is made of.
  template <class... Args>
  static Result<std::unique_ptr<Contender>> start_with(const Setting& setting, Args... memory) {
    std::unique_ptr<Ring> ring(new Ring(setting, memory...));
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
  template <class... Args>
  explicit Ring(const Setting& setting, Args... memory) : setting_(setting), memory_(memory...) {}

  Result<> run_member(int index, Control& control) {
    try {
      return run_link(index, control);
    } catch (const std::exception& error) {
      if (control.quit.load() != 0) return {};  // the other side has ended already
      return fail(ErrorCode::operator_failed, "{}", error.what());
    }
  }

  Result<> run_link(int index, Control& control) {
    OPSPLIT_TRY(const auto link, Link::open(setting_, index, *memory_));
    Crew::join(control);
    if (index == 0) {
      lead(*link, control);
      return {};
    }
    if constexpr (requires { link->serve(control.quit); }) {
      link->serve(control.quit);
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
