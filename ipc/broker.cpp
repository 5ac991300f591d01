#include "ipc/broker.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <limits>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/plan.hpp"
#include "base/system.hpp"
#include "iceoryx_posh/internal/popo/ports/publisher_port_user.hpp"
#include "iceoryx_posh/internal/roudi/memory/port_pool_memory_block.hpp"
#include "iceoryx_posh/internal/roudi/roudi.hpp"
#include "iceoryx_posh/roudi/iceoryx_roudi_components.hpp"
#include "iceoryx_posh/runtime/posh_runtime_single_process.hpp"
#include "ipc/roudi_files.hpp"

namespace opsplit::ipc {
namespace {

// The payload of an arena is a whole number of pages, at a page boundary: so that attached
// processes can set memory advice for it without touching a neighbour.
constexpr std::uint32_t page = 4096;
// Of a pool's entry beyond the payload: what aligning the payload may cost. iceoryx adds its chunk
// header itself.
constexpr std::uint64_t pool_overhead = page;

using iox::mepoo::MePooConfig;

// Whole pages, ascending, no two alike: iceoryx allows one pool per size, and one chunk per pool
// stays below 4 GiB where two of them would not.
Result<std::vector<std::uint64_t>> pool_sizes(std::span<const std::uint64_t> pools) {
  if (pools.empty()) return fail(ErrorCode::invalid_input, "a broker needs at least one pool");
  if (pools.size() > max_pools)
    return fail(ErrorCode::limit_exceeded, "{} pools: iceoryx has at most {}", pools.size(),
                max_pools);
  std::vector<std::uint64_t> sizes(pools.begin(), pools.end());
  std::ranges::sort(sizes);
  std::uint64_t last = 0;
  for (auto& size : sizes) {
    if (size == 0) return fail(ErrorCode::invalid_input, "a pool of 0 bytes");
    // One page per pool is left for the equal ones before it.
    if (size > max_arena_bytes)
      return fail(ErrorCode::limit_exceeded,
                  "a pool of {} bytes: iceoryx's pools end at {} bytes; use a smaller depth", size,
                  max_arena_bytes);
    size = std::max((size + page - 1) / page * page, last + page);
    last = size;
  }
  if (last + pool_overhead + sizeof(iox::mepoo::ChunkHeader) >
      std::numeric_limits<std::uint32_t>::max())
    return fail(ErrorCode::limit_exceeded, "too many pools of {} bytes and more", pools.back());
  return sizes;
}

iox::RouDiConfig_t roudi_config(const std::vector<std::uint64_t>& sizes, const std::string& group) {
  MePooConfig pools;
  for (const std::uint64_t size : sizes)
    pools.addMemPool({static_cast<std::uint32_t>(size + pool_overhead), 1});
  iox::RouDiConfig_t config;
  const iox::posix::PosixGroup::string_t name(iox::cxx::TruncateToCapacity, group);
  config.m_sharedMemorySegments.push_back({name, name, pools});
  return config;
}

// Asks the objects that RouDi builds its segments from; builds none.
std::uint64_t segment_bytes(const iox::RouDiConfig_t& config) {
  const auto memory = std::make_unique<iox::roudi::DefaultRouDiMemory>(config);
  const auto& pools = config.m_sharedMemorySegments.front().m_mempoolConfig;
  return memory->m_introspectionMemPoolBlock.size() + memory->m_segmentManagerBlock.size() +
         iox::roudi::PortPoolMemoryBlock().size() +
         iox::mepoo::MemoryManager::requiredChunkMemorySize(pools) + 4 * page;
}

// RouDi with an eye on who registers. RouDi itself only forgets a process that says goodbye.
class WatchfulRoudi final : public iox::roudi::RouDi {
 public:
  explicit WatchfulRoudi(iox::roudi::IceOryxRouDiComponents& components)
      : RouDi(components.rouDiMemoryManager, components.portManager,
              RoudiStartupParameters(iox::roudi::MonitoringMode::OFF,
                                     /*killProcessesInDestructor=*/false,
                                     RuntimeMessagesThreadStart::DEFER_START)) {
    startProcessRuntimeMessagesThread();
  }

  void discover() { m_prcMgr->run(); }

  std::size_t forget_ended() {
    std::vector<iox::RuntimeName_t> ended;
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(processes_, [&ended](const auto& entry) {
        const bool gone = entry.second && has_ended(entry.second);
        if (gone) ended.push_back(entry.first);
        return gone;
      });
    }
    for (const auto& name : ended) static_cast<void>(m_prcMgr->unregisterProcess(name));
    return ended.size();
  }

  std::size_t processes() {
    const std::lock_guard lock(mutex_);
    return processes_.size();
  }

 protected:
  void processMessage(const iox::runtime::IpcMessage& message,
                      const iox::runtime::IpcMessageType& command,
                      const iox::RuntimeName_t& name) noexcept override {
    if (command == iox::runtime::IpcMessageType::REG && message.getNumberOfElements() == 6)
      watch(name, message.getElementAtIndex(2));
    if (command == iox::runtime::IpcMessageType::TERMINATION) {
      const std::lock_guard lock(mutex_);
      processes_.erase(name);
    }
    RouDi::processMessage(message, command, name);
  }

 private:
  // A pid counts in its own PID namespace only. That it means the same process here is proved by
  // the lock file that the process holds open while it registers; without proof it is not watched,
  // because the death of the wrong process would free memory that is in use.
  void watch(const iox::RuntimeName_t& name, const std::string& pid_text) {
    pid_t pid = 0;
    std::from_chars(pid_text.data(), pid_text.data() + pid_text.size(), pid);
    FileDescriptor pidfd;
    if (const auto identity = identify(pid); identity && has_open(pid, name))
      pidfd = open_pidfd(*identity).value_or(FileDescriptor{});
    const std::lock_guard lock(mutex_);
    processes_[name] = std::move(pidfd);
  }

  static bool has_open(pid_t pid, const iox::RuntimeName_t& name) {
    const auto wanted = fmt::format("/tmp/{}.lock", name.c_str());
    std::error_code error;
    const std::filesystem::directory_iterator files(fmt::format("/proc/{}/fd", pid), error);
    if (error) return false;
    return std::ranges::any_of(files, [&wanted](const auto& file) {
      std::error_code gone;
      return std::filesystem::read_symlink(file.path(), gone) == wanted;
    });
  }

  std::mutex mutex_;
  std::map<iox::RuntimeName_t, FileDescriptor> processes_;
};

}  // namespace

Result<std::uint64_t> broker_bytes(std::span<const std::uint64_t> pools) {
  OPSPLIT_TRY(const auto sizes, pool_sizes(pools));
  tame_iceoryx();
  return segment_bytes(roudi_config(sizes, "root"));
}

// Everything of iceoryx's in here is left alone at the end, running threads and all.
struct Broker::State {
  FileDescriptor lock;
  std::vector<std::uint64_t> sizes;
  std::vector<std::filesystem::path> segments;
  std::uint64_t segment_inode = 0;
  iox::roudi::IceOryxRouDiComponents* components = nullptr;
  WatchfulRoudi* roudi = nullptr;
  iox::runtime::PoshRuntimeSingleProcess* runtime = nullptr;
  iox::mepoo::MemoryManager* memory = nullptr;
  std::map<ArenaId, std::pair<iox::PublisherPortUserType::MemberType_t*, std::size_t>> published;

  [[nodiscard]] bool is_free(std::size_t pool) const {
    return memory->getMemPoolInfo(static_cast<std::uint32_t>(pool)).m_usedChunks == 0;
  }
  void remove_all() {
    // A foreign RouDi with another /tmp may have put its own in their place.
    if (management_segment_inode() == segment_inode) remove_files(segments);
    remove_files(socket_and_lock_files());
    remove_files(runtime_files());
    remove_files({broker_lock_path});
  }
};

Broker::Broker(std::unique_ptr<State> state) : state_(std::move(state)) {}

Broker::~Broker() {
  state_->remove_all();
  static_cast<void>(state_.release());  // iceoryx's threads are still running
}

Result<std::unique_ptr<Broker>> Broker::start(std::vector<std::uint64_t> pools,
                                              std::function<void(const char*)> on_fatal) {
  auto state = std::make_unique<State>();
  OPSPLIT_TRY(state->sizes, pool_sizes(pools));
  OPSPLIT_TRY(const std::string group, group_name());
  const auto config = roudi_config(state->sizes, group);

  OPSPLIT_TRY(state->lock, take_over_from_dead_broker());
  state->segments = segment_files(group);

  tame_iceoryx([state = state.get(), on_fatal = std::move(on_fatal)](const char* error) {
    state->remove_all();
    on_fatal(error);
  });
  const std::uint64_t needed = segment_bytes(config);
  const std::uint64_t found = free_bytes("/dev/shm").value_or(0);
  if (found < needed) {
    remove_files({broker_lock_path});
    return fail(ErrorCode::limit_exceeded,
                "/dev/shm is too small: the broker needs {} bytes, {} are free", needed, found);
  }

  // RouDi announces itself on all three of them, and complains of processes that have ended.
  for (auto* stream : {&std::cout, &std::clog, &std::cerr}) stream->rdbuf(nullptr);
  state->components = new iox::roudi::IceOryxRouDiComponents(config);
  state->segment_inode = management_segment_inode();
  state->roudi = new WatchfulRoudi(*state->components);
  state->runtime = new iox::runtime::PoshRuntimeSingleProcess(
      iox::RuntimeName_t(iox::cxx::TruncateToCapacity, std::string(broker_runtime_name)));
  auto segment = state->components->rouDiMemoryManager.segmentManager()
                     .value()
                     ->getSegmentInformationWithWriteAccessForUser(
                         iox::posix::PosixUser::getUserOfCurrentProcess());
  if (!segment.m_memoryManager.has_value()) {
    state->remove_all();
    return fail(ErrorCode::refused, "iceoryx finds no memory for the group {} of this user", group);
  }
  state->memory = &segment.m_memoryManager.value().get();
  remove_files({fmt::format("/tmp/{}", broker_runtime_name),
                fmt::format("/tmp/{}.lock", broker_runtime_name)});
  // The note lets others attach, and a successor know the segment for ours.
  const auto note = fmt::format("iceoryx {} mgmt {}", iceoryx_version(), state->segment_inode);
  if (auto written = write_lock_note(state->lock, note); !written) {
    state->remove_all();
    return tl::unexpected(std::move(written).error());
  }
  return std::unique_ptr<Broker>(new Broker(std::move(state)));
}

Result<> Broker::publish(const ArenaId& id, std::uint64_t bytes) {
  OPSPLIT_CHECK(check_deployment_name(id.deployment));
  if (bytes == 0) return fail(ErrorCode::invalid_input, "an arena of 0 bytes");
  if (state_->published.contains(id))
    return fail(ErrorCode::already_exists, "the arena of {} (epoch {}) is published already",
                id.deployment, id.epoch);
  forget_ended();
  std::uint64_t largest = 0;
  std::size_t pool = state_->sizes.size();
  for (std::size_t i = state_->sizes.size(); i-- > 0;) {
    if (!state_->is_free(i)) continue;
    largest = std::max(largest, state_->sizes[i]);
    if (state_->sizes[i] >= bytes) pool = i;  // the last one found is the smallest
  }
  if (pool == state_->sizes.size())
    return fail(ErrorCode::limit_exceeded,
                "the arena of {} needs {} bytes, the broker's largest free pool has {}: {} bytes "
                "are missing",
                id.deployment, bytes, largest, bytes - largest);

  using Id = iox::capro::IdString_t;
  const auto text = [](const std::string& from) { return Id(iox::cxx::TruncateToCapacity, from); };
  iox::popo::PublisherOptions options;
  options.historyCapacity = 1;
  auto* data = state_->runtime->getMiddlewarePublisher(
      {text(std::string(service_name)), text(id.deployment), text(std::to_string(id.epoch))},
      options);
  if (data == nullptr) return fail(ErrorCode::system, "iceoryx has no publisher left");
  iox::popo::PublisherPortUser port(data);
  // Asking for all of the pool's bytes makes iceoryx choose just this pool.
  auto chunk =
      port.tryAllocateChunk(static_cast<std::uint32_t>(state_->sizes[pool]), page,
                            iox::CHUNK_NO_USER_HEADER_SIZE, iox::CHUNK_NO_USER_HEADER_ALIGNMENT);
  if (chunk.has_error()) {
    port.destroy();
    return fail(ErrorCode::system, "iceoryx does not loan a pool that is free");
  }
  port.sendChunk(chunk.value());
  state_->published.emplace(id, std::pair{data, pool});
  return {};
}

Result<> Broker::withdraw(const ArenaId& id) {
  const auto found = state_->published.find(id);
  if (found == state_->published.end())
    return fail(ErrorCode::not_found, "no arena of {} (epoch {}) is published", id.deployment,
                id.epoch);
  const auto [data, pool] = found->second;
  state_->published.erase(found);
  iox::popo::PublisherPortUser port(data);
  port.stopOffer();
  port.destroy();
  // RouDi looks every 100 ms; here it is asked to look at once.
  for (int attempt = 0; attempt < 50; ++attempt) {
    forget_ended();
    state_->roudi->discover();
    if (state_->is_free(pool)) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {};
}

std::size_t Broker::forget_ended() { return state_->roudi->forget_ended(); }

std::vector<PoolState> Broker::pools() const {
  std::vector<PoolState> states;
  for (std::size_t i = 0; i < state_->sizes.size(); ++i)
    states.push_back({state_->sizes[i], state_->is_free(i)});
  return states;
}

// The broker itself is registered, too.
std::size_t Broker::processes() const { return state_->roudi->processes() - 1; }

std::vector<ArenaId> Broker::arenas() const {
  std::vector<ArenaId> ids;
  for (const auto& [id, arena] : state_->published) ids.push_back(id);
  return ids;
}

}  // namespace opsplit::ipc
