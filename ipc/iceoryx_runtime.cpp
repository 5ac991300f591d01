#include "ipc/iceoryx_runtime.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <iostream>
#include <mutex>
#include <streambuf>
#include <thread>
#include <utility>
#include <vector>

#include "iceoryx_hoofs/error_handling/error_handling.hpp"
#include "iceoryx_hoofs/internal/relocatable_pointer/base_relative_pointer.hpp"
#include "iceoryx_hoofs/log/logmanager.hpp"
#include "iceoryx_posh/internal/popo/ports/subscriber_port_user.hpp"
#include "iceoryx_posh/internal/runtime/posh_runtime_impl.hpp"
#include "iceoryx_versions.hpp"

namespace opsplit::ipc {
namespace {

using iox::runtime::PoshRuntimeImpl;
using SubscriberPort = iox::popo::SubscriberPortUser::MemberType_t;

// --- Two private members of PoshRuntimeImpl ---
// Neither can be reached otherwise, and a process that outlives its broker has to: the sender of
// the signs of life, and the mappings. An explicit instantiation may name private members.

template <class Tag, typename Tag::type PoshRuntimeImpl::*Member>
struct Expose {
  friend typename Tag::type& member(Tag, PoshRuntimeImpl& runtime) { return runtime.*Member; }
};
struct KeepAlive {
  using type = iox::concurrent::PeriodicTask<iox::cxx::MethodCallback<void>>;
  friend type& member(KeepAlive, PoshRuntimeImpl&);
};
struct Mappings {
  using type = iox::cxx::optional<iox::runtime::SharedMemoryUser>;
  friend type& member(Mappings, PoshRuntimeImpl&);
};
template struct Expose<KeepAlive, &PoshRuntimeImpl::m_keepAliveTask>;
template struct Expose<Mappings, &PoshRuntimeImpl::m_ShmInterface>;

// --- Errors ---

// What iceoryx said last on this thread, for the Error that follows from it.
thread_local const char* last_complaint = "no reason given";
// Set on the threads of ours that are inside iceoryx.
thread_local std::function<void(const char*)> fail_this_call;
// And on those that register, with whom.
struct Registering {
  std::unique_lock<std::timed_mutex>& turn;
  const ProcessIdentity& broker;
};
thread_local Registering* registering = nullptr;

std::function<void(const char*)>& fatal_hook() {
  static auto* hook = new std::function<void(const char*)>;
  return *hook;
}

bool is_alive(const ProcessIdentity& broker) {
  const auto holder = lock_holder(broker_lock_path);
  return holder && *holder && (*holder)->process == broker;
}

// On a thread of ours that cannot get out of iceoryx.
[[noreturn]] void give_up(const char* why) {
  if (registering != nullptr) registering->turn.unlock();
  fail_this_call(why);
  while (true) ::pause();
}

// iceoryx goes on as if its handler never returned from a fatal error; so it must not.
void on_error(iox::Error error, const std::function<void()>&, iox::ErrorLevel level) {
  last_complaint = iox::ErrorHandler::toString(error);
  if (level != iox::ErrorLevel::FATAL) return;
  if (fail_this_call) give_up(last_complaint);
  if (fatal_hook()) fatal_hook()(last_complaint);
  std::fprintf(stderr, "iceoryx: fatal error %s\n", last_complaint);
  std::abort();
}

// What is written to std::cerr; what iceoryx writes there on threads of ours is nobody's business.
//
// It is also where one can be stopped that registers with a RouDi that has just died. iceoryx tries that for a
// minute without a pause, since its socket still looks open, and complains each time; the next registration
// would have to wait for it.
class WithoutComplaints final : public std::streambuf {
 public:
  explicit WithoutComplaints(std::streambuf& others) : others_(others) {}

 protected:
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    if (!fail_this_call) return others_.sputn(text, size);
    if (registering != nullptr && !is_alive(registering->broker)) give_up("the broker has died");
    return size;
  }
  int overflow(int c) override {
    const char byte = traits_type::to_char_type(c);
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    return xsputn(&byte, 1) == 1 ? c : traits_type::eof();
  }
  int sync() override { return fail_this_call ? 0 : others_.pubsync(); }

 private:
  std::streambuf& others_;
};

// --- Runtimes ---

class EpochRuntime final : public PoshRuntimeImpl {
 public:
  explicit EpochRuntime(const iox::RuntimeName_t& name)
      : PoshRuntimeImpl(iox::cxx::make_optional<const iox::RuntimeName_t*>(&name)) {}
};

// This process's registration with one life of the broker.
struct Runtime {
  explicit Runtime(ProcessIdentity of) : broker(of) {}
  ~Runtime() {
    if (posh != nullptr) member(Mappings{}, *posh).reset();
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const ProcessIdentity broker;
  std::timed_mutex busy;         // one thread at a time talks with RouDi
  EpochRuntime* posh = nullptr;  // made under `busy`; never destroyed
};

// Never destroyed: a thread may still be inside iceoryx when the process ends.
//
// iceoryx has one table of mappings per process, from which its pointers are computed. It belongs
// to the current runtime: others must not touch what they made. A thread that was left to itself
// (its broker died, say) may wake up at any time, so everyone looks whether it is current, with
// `table` held; and a registration, which fills the table, is waited for by the next one.
struct Registry {
  std::mutex mutex;
  std::mutex table;
  std::timed_mutex registering;
  std::shared_ptr<Runtime> current;
  std::vector<EpochRuntime*> abandoned;

  static Registry& get() {
    static auto* registry = new Registry;
    return *registry;
  }

  std::shared_ptr<Runtime> of(const ProcessIdentity& broker) {
    const std::lock_guard lock(mutex);
    if (!current || current->broker != broker) current = std::make_shared<Runtime>(broker);
    return current;
  }
  bool is_current(const std::shared_ptr<Runtime>& runtime) {
    const std::lock_guard lock(mutex);
    return current == runtime;
  }
  // After its broker's death, or a fatal error, which its thread does not come back from: the next call
  // starts anew.
  void drop(const std::shared_ptr<Runtime>& runtime) {
    const std::lock_guard lock(mutex);
    if (current == runtime) current.reset();
  }
};

Result<ProcessIdentity> find_broker(Deadline deadline) {
  while (true) {
    auto holder = lock_holder(broker_lock_path);
    if (!holder) return within("the broker's lock", std::move(holder).error());
    if (!*holder)
      return fail(ErrorCode::unavailable, "no broker is running ({} is not held)",
                  broker_lock_path);
    const auto ours = fmt::format("iceoryx {}", iceoryx_version());
    const auto theirs = (*holder)->note.substr(0, (*holder)->note.find(' ', 8));
    if (theirs == ours) return (*holder)->process;
    if (theirs.starts_with("iceoryx "))
      return fail(ErrorCode::refused, "the broker has {}, this process has {}: must be the same",
                  theirs, ours);
    // It took its lock just now and has not written its note yet.
    if (Clock::now() >= deadline)
      return fail(ErrorCode::timed_out, "the broker (process {}) does not become ready",
                  (*holder)->process.pid);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

// --- Calls ---

tl::unexpected<Error> broker_died(const Runtime& runtime) {
  return fail(ErrorCode::unavailable, "the broker (process {}) has died", runtime.broker.pid);
}

tl::unexpected<Error> no_answer(const Runtime& runtime) {
  return fail(ErrorCode::timed_out, "the broker (process {}) does not answer", runtime.broker.pid);
}

// How much longer a caller waits for a job that minds the deadline itself.
constexpr auto grace = std::chrono::milliseconds(100);

// Runs `job` on a new thread. The caller waits until the deadline; then, or when the broker has
// died, the thread is left to itself and whatever it still returns is destroyed.
template <class T>
Result<T> call(const std::shared_ptr<Runtime>& runtime, Deadline deadline,
               std::function<Result<T>()> job) {
  auto promise = std::make_shared<std::promise<Result<T>>>();
  auto future = promise->get_future();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the program's signal handlers never run there
  std::string failure;
  try {
    std::thread([runtime, promise = std::move(promise), job = std::move(job)]() mutable {
      fail_this_call = [promise, runtime](const char* error) {
        Registry::get().drop(runtime);  // this thread keeps it busy from now on
        promise->set_value(fail(ErrorCode::system, "iceoryx: {}", error));
      };
      auto result = job();
      fail_this_call = nullptr;
      promise->set_value(std::move(result));
    }).detach();
  } catch (const std::system_error& error) {
    failure = error.what();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!failure.empty()) return fail(ErrorCode::system, "cannot start a thread: {}", failure);

  const auto patience = std::min(deadline, Deadline::max() - grace) + grace;
  while (true) {
    const auto slice = std::min(patience, Clock::now() + std::chrono::milliseconds(200));
    if (future.wait_until(slice) == std::future_status::ready) return future.get();
    if (!is_alive(runtime->broker)) return broker_died(*runtime);
    if (Clock::now() >= patience) return no_answer(*runtime);
  }
}

iox::RuntimeName_t unique_name(std::string_view name) {
  static std::atomic<int> count{0};
  return {iox::cxx::TruncateToCapacity,
          fmt::format("{}{}.{}.{}", runtime_prefix, name, ::getpid(), count.fetch_add(1))};
}

// Registers with RouDi. The segments of the former broker keep their numbers in iceoryx's table of
// mappings, and the new ones have the same numbers: without emptying it, its pointers would lead
// into the former broker's memory.
Result<> register_with_roudi(const std::shared_ptr<Runtime>& runtime, std::string_view name,
                             Deadline deadline) {
  auto& registry = Registry::get();
  std::unique_lock lock(registry.registering, deadline);
  if (!lock) return no_answer(*runtime);
  {
    const std::lock_guard table(registry.table);
    if (!registry.is_current(runtime)) return broker_died(*runtime);
    iox::rp::BaseRelativePointer::unregisterAll();
  }
  const auto unique = unique_name(name);
  Registering registration{lock, runtime->broker};
  registering = &registration;
  runtime->posh = new EpochRuntime(unique);
  registering = nullptr;
  member(KeepAlive{}, *runtime->posh).stop();
  const auto file = fmt::format("/tmp/{}", unique.c_str());
  ::unlink(file.c_str());
  ::unlink((file + ".lock").c_str());
  {
    const std::lock_guard guard(registry.mutex);
    registry.abandoned.push_back(runtime->posh);
  }
  // It may have waited for a RouDi until the next broker's came: then it is registered with that.
  if (!is_alive(runtime->broker)) return broker_died(*runtime);
  return {};
}

iox::capro::ServiceDescription service_of(const ArenaId& arena) {
  using Id = iox::capro::IdString_t;
  return {Id(iox::cxx::TruncateToCapacity, std::string(service_name)),
          Id(iox::cxx::TruncateToCapacity, arena.deployment),
          Id(iox::cxx::TruncateToCapacity, std::to_string(arena.epoch))};
}

Result<SubscriberPort*> subscribe(const std::shared_ptr<Runtime>& runtime, const ArenaId& arena,
                                  std::string_view name, Deadline deadline) {
  const std::unique_lock busy(runtime->busy, deadline);
  if (!busy) return no_answer(*runtime);
  if (runtime->posh == nullptr) OPSPLIT_CHECK(register_with_roudi(runtime, name, deadline));
  iox::popo::SubscriberOptions options;
  options.queueCapacity = 1;
  options.historyRequest = 1;
  auto* port = runtime->posh->getMiddlewareSubscriber(service_of(arena), options);
  if (port != nullptr) return port;
  if (!is_alive(runtime->broker)) return broker_died(*runtime);
  return fail(ErrorCode::system, "iceoryx: no subscriber: {}", last_complaint);
}

// The chunk's header lies in shared memory, so what it says is checked against the mapping.
Result<std::span<std::byte>> checked_payload(const iox::mepoo::ChunkHeader& header) {
  auto* data = static_cast<std::byte*>(const_cast<void*>(header.userPayload()));
  const std::uint64_t bytes = header.userPayloadSize();
  const auto segment = iox::rp::BaseRelativePointer::searchId(data);
  if (bytes == 0 || segment == 0 ||
      segment != iox::rp::BaseRelativePointer::searchId(data + bytes - 1))
    return fail(ErrorCode::refused, "the arena's chunk does not lie in iceoryx's memory");
  return std::span(data, bytes);
}

}  // namespace

void tame_iceoryx(std::function<void(const char* error)> on_fatal) {
  if (on_fatal) fatal_hook() = std::move(on_fatal);
  // `used`: a pointer that is optimised away leaves what it points to looking like a leak.
  [[gnu::used]] static const auto* once = [] {
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
        iox::log::LogLevel::kOff, iox::log::LogLevelOutput::kHideLogLevel);
    std::cerr.rdbuf(new WithoutComplaints(*std::cerr.rdbuf()));
    // Its destructor would put the default handler back.
    return new iox::cxx::GenericRAII(iox::ErrorHandler::setTemporaryErrorHandler(on_error));
  }();
  static_cast<void>(once);
}

std::string_view iceoryx_version() { return ICEORYX_LATEST_RELEASE_VERSION; }

struct TakenChunk::State {
  static Result<std::unique_ptr<State>> try_take(const std::shared_ptr<Runtime>& runtime,
                                                 SubscriberPort* port);

  std::shared_ptr<Runtime> runtime;
  SubscriberPort* port = nullptr;
  const iox::mepoo::ChunkHeader* header = nullptr;
  std::span<std::byte> payload;
};

// Null: there is none yet.
Result<std::unique_ptr<TakenChunk::State>> TakenChunk::State::try_take(
    const std::shared_ptr<Runtime>& runtime, SubscriberPort* port) {
  const std::lock_guard table(Registry::get().table);
  if (!Registry::get().is_current(runtime)) return broker_died(*runtime);
  auto chunk = iox::popo::SubscriberPortUser(port).tryGetChunk();
  if (chunk.has_error()) return nullptr;
  OPSPLIT_TRY(const auto payload, checked_payload(*chunk.value()));
  return std::make_unique<State>(State{runtime, port, chunk.value(), payload});
}

TakenChunk::TakenChunk(std::unique_ptr<State> state) : state_(std::move(state)) {}

std::span<std::byte> TakenChunk::payload() const { return state_->payload; }

Result<std::unique_ptr<TakenChunk>> TakenChunk::take(std::string_view runtime_name,
                                                     const ArenaId& arena, Deadline deadline) {
  const bool valid_name = std::ranges::all_of(runtime_name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
  if (!valid_name || runtime_name.empty() || runtime_name.size() > 64)
    return fail(ErrorCode::invalid_input, "runtime name '{}': 1 to 64 of [A-Za-z0-9_.-]",
                runtime_name);
  OPSPLIT_TRY(const ProcessIdentity broker, find_broker(deadline));
  tame_iceoryx();
  const auto runtime = Registry::get().of(broker);

  const auto job = [runtime, arena, deadline,
                    name = std::string(runtime_name)]() -> Result<std::unique_ptr<TakenChunk>> {
    OPSPLIT_TRY(auto* port, subscribe(runtime, arena, name, deadline));
    while (true) {
      OPSPLIT_TRY(auto chunk, State::try_take(runtime, port));
      if (chunk) return std::unique_ptr<TakenChunk>(new TakenChunk(std::move(chunk)));
      if (Clock::now() >= deadline) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    iox::popo::SubscriberPortUser(port).destroy();
    return fail(ErrorCode::timed_out, "the broker has not published an arena of {} (epoch {})",
                arena.deployment, arena.epoch);
  };
  return call<std::unique_ptr<TakenChunk>>(runtime, deadline, job);
}

// Only where iceoryx's table of mappings still is this runtime's: in another epoch's memory the
// same relative pointers would lead astray. The former broker needs nothing back.
TakenChunk::~TakenChunk() {
  const auto runtime = state_->runtime;
  if (!Registry::get().is_current(runtime)) return;
  // With its last chunk the former broker's memory goes: its successor may need the room.
  if (!is_alive(runtime->broker)) {
    Registry::get().drop(runtime);
    return;
  }
  const auto deadline = Clock::now() + std::chrono::seconds(1);
  const auto job = [runtime, deadline, data = state_->port, header = state_->header]() -> Result<> {
    const std::unique_lock busy(runtime->busy, deadline);
    if (!busy) return {};
    const std::lock_guard table(Registry::get().table);
    if (!Registry::get().is_current(runtime)) return {};
    iox::popo::SubscriberPortUser port(data);
    port.releaseChunk(header);
    port.unsubscribe();
    port.destroy();  // RouDi removes it within 100 ms
    return {};
  };
  static_cast<void>(call<void>(runtime, deadline, job));
}

}  // namespace opsplit::ipc
