// The processes of a contender. They are forked, not threads: each maps the shared memory by itself.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "bench/contender.hpp"
#include "ipc/futex.hpp"

namespace opsplit::bench {

// A T in zeroed memory that this process shares with the children it forks from now on.
void* map_shared(std::size_t bytes);
void unmap_shared(void* memory, std::size_t bytes);
template <class T>
class Shared {
 public:
  template <class... Args>
  explicit Shared(Args... args) : object_(new (map_shared(sizeof(T))) T{args...}) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() {
    object_->~T();
    unmap_shared(object_, sizeof(T));
  }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }

 private:
  T* object_;
};

// A child process that dies with its parent.
class Process {
 public:
  // The child runs `body` on `cpu` (-1: anywhere) and ends with what that returns. It gets `signal`
  // when its parent ends.
  Process(int cpu, int signal, const std::function<int()>& body);
  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, 0)), signal_(other.signal_) {}
  Process& operator=(Process&&) = delete;
  // Sends the signal, unless that is SIGKILL: then the child has been told to end by other means.
  // Kills it if it does not end within a few seconds.
  ~Process();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool has_ended() const;
  // It has ended, by itself and with 0.
  [[nodiscard]] bool has_ended_well() const;

 private:
  pid_t pid_ = 0;
  int signal_;
};

// What the members of a crew and the benchmark tell each other.
struct Control {
  std::atomic<std::uint32_t> ready;             // members that wait for the first request
  alignas(64) std::atomic<std::uint32_t> go;    // requests asked for
  alignas(64) std::atomic<std::uint32_t> done;  // requests answered
  alignas(64) std::atomic<std::uint32_t> quit;
  alignas(64) std::atomic<std::uint64_t> begin_ns;  // of the timed part of the last request
  std::atomic<std::uint64_t> end_ns;
};

class Crew {
 public:
  // Runs in a process of its own; must call join() once it is in place, and return after `quit`.
  using Member = std::function<Result<>(int index, Control& control)>;

  // Returns once every member is ready. Error: one has ended (and has said why on stderr).
  static Result<std::unique_ptr<Crew>> start(const Setting& setting, const Member& member);
  ~Crew();  // asks them to quit

  static void join(Control& control);
  // Sleeps while the word holds `seen`. Error: a member has ended.
  Result<> wait(std::atomic<std::uint32_t>& word, std::uint32_t seen);
  [[nodiscard]] Control& control() const { return *control_; }
  [[nodiscard]] pid_t pid(std::size_t index) const { return members_[index].pid(); }

 private:
  Crew() = default;

  Shared<Control> control_;
  std::vector<Process> members_;
};

// The cores that this process may use, as it was started.
const std::vector<int>& allowed_cores();

inline ipc::SystemFutex system_futex;

}  // namespace opsplit::bench
