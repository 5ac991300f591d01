#include "daemon/daemon.hpp"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "daemon/paths.hpp"
#include "daemon/saved_deployment.hpp"
#include "daemon/stale_files.hpp"
#include "ipc/broker.hpp"
#include "ipc/iceoryx_runtime.hpp"
#include "ipc/roudi_files.hpp"
#include "ipc/weight_store.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto longest_wait_for_room = 60s;

// A member of a request, as a string; empty if it is absent.
Result<std::string> text(const json& request, const char* key) {
  const auto found = request.find(key);
  if (found == request.end()) return std::string();
  if (!found->is_string())
    return fail(ErrorCode::invalid_input, "request: '{}' must be a string", key);
  return found->get<std::string>();
}

Result<Target> target_of(const json& request) {
  Target target;
  OPSPLIT_TRY(target.path, text(request, "path"));
  OPSPLIT_TRY(target.split, text(request, "split"));
  OPSPLIT_TRY(target.name, text(request, "name"));
  for (const json& shape : request.value("shapes", json::array())) {
    if (!shape.is_string())
      return fail(ErrorCode::invalid_input, "request: 'shapes' must hold strings");
    target.shapes.push_back(shape.get<std::string>());
  }
  target.attach = request.value("attach", false);
  return target;
}

// Runs on a thread whose exceptions nobody catches.
Result<Planned> plan_and_write(Deployment deployment, const std::string& folder,
                               const std::filesystem::path& cache) try {
  OPSPLIT_TRY(Planned planned, prepare(std::move(deployment), folder, cache));
  planned.graph = {};  // it holds the weights once more: they are stored now
  return planned;
} catch (const std::exception& error) {
  return fail(ErrorCode::system, "planning failed: {}", error.what());
}

}  // namespace

struct Daemon::Connection {
  explicit Connection(ipc::MessageSocket accepted) : socket(std::move(accepted)) {}

  ipc::MessageSocket socket;
  Watch readable;
  Watch writable;  // while something is queued
  // The client that attached over this connection, and to what: one epoch of it.
  std::weak_ptr<RunningDeployment> deployment;
  ipc::LaunchNumber client = 0;
  // Whose operator it swaps just now.
  std::weak_ptr<RunningDeployment> swapping;
  // Deployments that end with this connection: temporary ones, and those that it waits for.
  std::vector<std::string> owned;
};

Daemon::Daemon(boost::asio::io_context& io, Launcher& launcher, ipc::Futex& futex,
               ipc::MessageListener listener, Options options)
    : io_(io),
      options_(std::move(options)),
      context_{io,
               launcher,
               futex,
               socket_path(options_.folder),
               options_.programs,
               options_.folder / "logs",
               options_.folder / device_folder_name,
               [this](const std::string& name, const std::string& reason, bool goes_on) {
                 epoch_lost(name, reason, goes_on);
               }},
      broker_(io, launcher,
              options_.broker_socket.empty()
                  ? BrokerProcess::Paths{options_.programs / "opsplit-broker",
                                         options_.folder / "broker.sock",
                                         options_.folder / "broker.log"}
                  : BrokerProcess::Paths{"", options_.broker_socket, ""},
              [this](const std::string& reason) { broker_died(reason); }),
      listener_(std::move(listener)),
      listening_(io, listener_.fd(), Watch::readable, [this] { accept(); }),
      accept_again_(io),
      idle_(io),
      enter_again_(io) {
  finish_if_idle_for(10s);
  if (options_.up) boost::asio::post(io_, [this] { up(nobody, to_json(*options_.up)); });
}

nlohmann::json to_json(const Target& target) {
  return {{"path", std::filesystem::absolute(target.path).string()},
          {"split", target.split},
          {"name", target.name},
          {"shapes", target.shapes},
          {"attach", target.attach}};
}

Daemon::~Daemon() { planner_.join(); }

Result<> Daemon::take_over() {
  std::set<ipc::ArenaId> arenas;
  std::set<std::filesystem::path> in_use, device_sockets;
  for (const std::string& folder : saved_folders()) {
    OPSPLIT_TRY(SavedDeployment saved, read_saved(folder));
    const Standing& standing = saved.standing;
    const std::string name = saved.planned.deployment.name;
    if (standing.opsplitd != options_.folder)
      return fail(ErrorCode::refused,
                  "deployment '{}' belongs to an opsplitd that has died: start its successor with "
                  "--folder {}",
                  name, standing.opsplitd.string());
    last_epoch_ = std::max(last_epoch_, standing.epoch);
    const auto deployment = std::make_shared<RunningDeployment>(context_, std::move(saved.planned),
                                                                folder, /*temporary=*/false);
    if (const auto taken = deployment->take_over(standing); !taken) {
      spdlog::warn("{}: what an earlier opsplitd left of it is removed: {}", name,
                   taken.error().message);
      continue;
    }
    spdlog::info("{}: taken over from an earlier opsplitd", name);
    arenas.insert({name, standing.epoch});
    device_sockets.merge(deployment->device_sockets());
    in_use.insert(
        {folder, std::filesystem::path("/dev/shm") / ipc::board_name(name, standing.epoch)});
    deployments_[name] = deployment;
  }
  // Of an earlier epoch, say, that was about to end: whoever has it mapped sees that nobody supervises it.
  for (const auto& file : stale_files())
    if (!in_use.contains(file)) OPSPLIT_CHECK(remove_stale(file));
  end_stale_device_brokers(context_.device_folder, device_sockets);
  const auto lock = lock_holder(ipc::broker_lock_path);
  if (arenas.empty() && !(lock && *lock)) return {};
  const auto broker = broker_.take_over(arenas);
  if (arenas.empty()) {  // its pools are not what the next deployment needs
    if (broker) broker_.stop([] {});
    return {};
  }
  const bool was_between_epochs = std::any_of(
      deployments_.begin(), deployments_.end(),
      [](const auto& entry) { return entry.second->phase() == RunningDeployment::Phase::stopped; });
  if (!broker)
    boost::asio::post(io_, [this, error = broker.error()] { broker_died(error.message); });
  else if (was_between_epochs)
    broker_.stop([this] {
      boost::asio::post(io_, [this] { broker_died("opsplitd died between two epochs"); });
    });
  return {};
}

void Daemon::accept() {
  while (true) {
    auto accepted = listener_.accept();
    if (!accepted) {
      spdlog::warn("a connection was refused: {}", accepted.error().message);
      if (accepted.error().code == ErrorCode::refused) continue;
      // Out of descriptors, say: it stays readable, so that looking again at once would spin.
      listening_.reset();
      accept_again_.at(Clock::now() + 100ms, [this] {
        listening_ = Watch(io_, listener_.fd(), Watch::readable, [this] { accept(); });
      });
      return;
    }
    if (!*accepted) return;
    const ConnectionId id = ++last_connection_;
    const int fd = (*accepted)->fd();
    auto connection = std::make_unique<Connection>(std::move(**accepted));
    connection->readable = Watch(io_, fd, Watch::readable, [this, id] { receive(id); });
    connections_.emplace(id, std::move(connection));
  }
}

void Daemon::receive(ConnectionId id) {
  // Handling a request can end the connection: look it up each time.
  for (auto found = connections_.find(id); found != connections_.end();
       found = connections_.find(id)) {
    auto message = found->second->socket.try_receive();
    if (!message) {
      disconnect(id);
      return;
    }
    if (!*message) return;
    try {
      handle(id, **message);
    } catch (const nlohmann::json::exception& error) {  // a member of another type
      reply(id, Error{ErrorCode::invalid_input, fmt::format("request: {}", error.what())});
    }
  }
}

void Daemon::disconnect(ConnectionId id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if (const auto deployment = found->second->deployment.lock())
    deployment->client_disconnected(found->second->client);
  const std::vector<std::string> owned = std::move(found->second->owned);
  const auto swapping = found->second->swapping.lock();
  connections_.erase(found);
  if (swapping) swapping->abandon_swap({ErrorCode::unavailable, "whoever asked for it has left"});
  for (const std::string& name : owned)
    if (const auto running = deployments_.find(name); running != deployments_.end())
      stop(*running->second, [] {});
  finish_if_idle_for(2s);
}

// Whoever started us may have died before it could say what for. Others may look in before it does.
void Daemon::finish_if_idle_for(std::chrono::seconds time) {
  const bool ends = options_.exit_when_empty || options_.exit_when_alone;
  if (!ends || !connections_.empty()) return;
  idle_.at(Clock::now() + time, [this] {
    if (connections_.empty()) finish_if_empty();
  });
}

void Daemon::reply(ConnectionId id, const json& message) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;  // it did not wait
  ipc::MessageSocket& socket = found->second->socket;
  if (!socket.queue(message) || !socket.flush()) {
    disconnect(id);
    return;
  }
  if (!socket.has_queued()) return;
  found->second->writable = Watch(io_, socket.fd(), Watch::writable, [this, id] {
    const auto connection = connections_.find(id);
    if (connection == connections_.end()) return;
    if (!connection->second->socket.flush())
      disconnect(id);
    else if (!connection->second->socket.has_queued())
      connection->second->writable.reset();
  });
}

void Daemon::reply(ConnectionId id, const Error& error) {
  if (id == nobody) {  // --up: there is nothing else that we are for
    spdlog::error("{}", error.message);
    failed_ = true;
    boost::asio::post(io_, [this] { shut_down(); });
  }
  reply(id, ipc::error_reply(error));
}

void Daemon::handle(ConnectionId id, const json& request) {
  if (!request.is_object())
    return reply(id, Error{ErrorCode::invalid_input, "request: not an object"});
  const auto op = text(request, "op");
  const auto version = text(request, "version");
  const auto name = text(request, "deployment");
  for (const auto* part : {&op, &version, &name})
    if (!*part) return reply(id, part->error());
  if (*version != OPSPLIT_VERSION)
    return reply(id, Error{ErrorCode::refused,
                           fmt::format("opsplitd is version {}, the caller is version {}: use one",
                                       OPSPLIT_VERSION, *version)});
  if (shutting_down_) return reply(id, Error{ErrorCode::unavailable, "opsplitd is shutting down"});
  if (*op == "ping") return reply(id, json{{"ok", true}});
  if (*op == "ps")
    return reply(id, ps(request.value("histograms", false) ? RunningDeployment::Detail::histograms
                                                           : RunningDeployment::Detail::quantiles));
  if (*op == "up") return up(id, request);
  if (*op == "down") return down(id, request);
  if (*op == "attach_client") return attach_client(id, *name);
  if (*op == "attach_operator" || *op == "ready" || *op == "cores" || *op == "set" ||
      *op == "swap" || *op == "introduce_client") {
    const auto found = deployments_.find(*name);
    if (found == deployments_.end())
      return reply(id, Error{ErrorCode::not_found, fmt::format("no deployment '{}'", *name)});
    if (*op == "set") return set(id, *found->second, request);
    if (*op == "swap") return swap(id, *found->second, request);
    if (*op == "introduce_client") {
      const auto known = introduce_client(*connections_.at(id), *found->second, request);
      return known ? reply(id, json{{"ok", true}}) : reply(id, known.error());
    }
    const pid_t pid = connections_.at(id)->socket.peer().pid;
    if (*op == "cores") {
      const auto cores = found->second->assigned_cores(pid);
      return cores ? reply(id, ipc::to_json(*cores)) : reply(id, cores.error());
    }
    if (*op == "ready") {
      const auto ready = found->second->operator_ready(pid);
      return ready ? reply(id, json{{"ok", true}}) : reply(id, ready.error());
    }
    const auto wanted = text(request, "operator");
    const auto iceoryx = text(request, "iceoryx");
    if (!wanted || !iceoryx) return reply(id, (wanted ? iceoryx : wanted).error());
    if (*iceoryx != ipc::iceoryx_version())
      return reply(id, Error{ErrorCode::refused,
                             fmt::format("opsplitd has iceoryx {}, operator '{}' has {}: use one",
                                         ipc::iceoryx_version(), *wanted, *iceoryx)});
    const auto attachment = found->second->attach_operator(
        pid, *wanted, request.value("can_run", std::set<std::string>()),
        RunsOn{request.value("on_cpus", true), request.value("on_gpu", false)});
    return attachment ? reply(id, ipc::to_json(*attachment)) : reply(id, attachment.error());
  }
  reply(id, Error{ErrorCode::invalid_input, fmt::format("request: unknown op '{}'", *op)});
}

void Daemon::up(ConnectionId id, const json& request) {
  const auto target = target_of(request);
  auto deployment = target ? Deployment::open(*target) : tl::unexpected(target.error());
  if (!deployment) {
    reply(id, deployment.error());
    return finish_if_empty();
  }
  const std::string name = deployment->name;
  if (id == nobody && deployments_.contains(name)) return;  // taken over
  if (deployments_.contains(name) || preparing_.contains(name))
    return reply(id, Error{ErrorCode::already_exists,
                           fmt::format("a deployment '{}' runs already: choose another --name, or "
                                       "`opsplit down {}` first",
                                       name, name)});
  if (deployments_.empty() && preparing_.empty() && !broker_.running()) {
    if (const auto removed = remove_what_is_stale(); !removed) {
      reply(id, removed.error());
      return finish_if_empty();
    }
  }
  if (const auto installed = check_backends(*deployment, options_.programs); !installed) {
    reply(id, installed.error());
    return finish_if_empty();
  }
  const bool temporary = request.value("temporary", false);
  preparing_.insert(name);
  reply(id, json{{"progress", fmt::format("planning {}", deployment->model.filename().string())}});
  const std::uint64_t epoch = ++last_epoch_;
  boost::asio::post(
      planner_, [this, id, name, epoch, temporary, deployment = std::move(*deployment)]() mutable {
        auto result = std::make_shared<Result<Planned>>(
            plan_and_write(std::move(deployment), ipc::folder_path(name, epoch), options_.cache));
        boost::asio::post(io_, [this, id, name, epoch, temporary, result] {
          prepared(id, name, epoch, temporary, std::move(*result));
        });
      });
}

void Daemon::prepared(ConnectionId id, std::string name, std::uint64_t epoch, bool temporary,
                      Result<Planned> planned) {
  preparing_.erase(name);
  std::error_code ignored;
  if (planned)
    if (const auto installed = check_backends(*planned, options_.programs); !installed) {
      std::filesystem::remove_all(ipc::folder_path(name, epoch), ignored);
      planned = tl::unexpected(installed.error());
    }
  if (!planned) {
    reply(id, planned.error());
    if (const auto cancelled = cancelled_.extract(name))
      for (const auto& done : cancelled.mapped()) done();
    return finish_if_empty();
  }
  const auto connection = connections_.find(id);
  const auto cancelled = cancelled_.extract(name);
  const bool given_up = id != nobody && connection == connections_.end();
  if (given_up || cancelled || shutting_down_) {
    std::filesystem::remove_all(ipc::folder_path(name, epoch), ignored);
    reply(id, Error{ErrorCode::unavailable,
                    fmt::format("deployment '{}' was stopped while it started", name)});
    if (cancelled)
      for (const auto& done : cancelled.mapped()) done();
    return finish_if_empty();
  }
  // Until it is ready, whoever waits for it may give it up.
  if (id != nobody) connection->second->owned.push_back(name);
  const std::uint64_t bytes = planned->arena_bytes;
  const std::size_t operators = planned->plan.operators.size();
  const auto deployment = std::make_shared<RunningDeployment>(
      context_, std::move(*planned), ipc::folder_path(name, epoch), temporary);
  deployments_[name] = deployment;
  reply(id, json{{"progress", fmt::format("starting {} operators", operators)}});
  const auto start = [this, id, name, epoch, temporary](RunningDeployment& starting) {
    starting.start(epoch, [this, id, name, temporary](const Result<>& result) {
      started(id, name, temporary, result);
    });
    if (const auto awaited = starting.awaited(); !awaited.empty())
      reply(id,
            json{{"progress", fmt::format("waiting for {} to attach", fmt::join(awaited, ", "))}});
  };
  // Its name may be another one's by the time that the broker answers.
  publish(name, epoch, bytes,
          [this, id, name, epoch, temporary, start,
           weak = std::weak_ptr(deployment)](const Result<>& published) {
            const auto waiting = weak.lock();
            const auto phase = waiting ? waiting->phase() : RunningDeployment::Phase::stopped;
            const bool begun = phase == RunningDeployment::Phase::starting;
            if (!begun && phase != RunningDeployment::Phase::planned) {  // given up meanwhile
              if (published) (void)broker_.withdraw({name, epoch});
              if (!broker_.ours())  // else its start has failed already
                reply(id, Error{ErrorCode::unavailable,
                                fmt::format("deployment '{}' was stopped while it started", name)});
              return finish_if_empty();
            }
            if (begun && !published) return waiting->fail_start(published.error());
            if (!published) return started(id, name, temporary, published);
            if (!begun) start(*waiting);
          });
  // Operators need the arena last of all, and load while the broker fills its pools with zeros. But
  // where somebody else starts the broker, nobody knows when.
  if (broker_.ours() && deployment->phase() == RunningDeployment::Phase::planned)
    start(*deployment);
}

void Daemon::started(ConnectionId id, const std::string& name, bool temporary,
                     const Result<>& result) {
  RunningDeployment& deployment = *deployments_.at(name);
  if (!result) {
    reply(id, result.error());
    stop(deployment, [] {});
    return;
  }
  const auto connection = connections_.find(id);
  if (connection != connections_.end() && !temporary) std::erase(connection->second->owned, name);
  let_broker_outlive_us(deployment);
  reply(id, json{{"ok", true}, {"deployment", deployment.status()}});
  serve_waiting_clients();
  if (!options_.cache.empty())
    boost::asio::post(planner_, [this] { ipc::prune_packed(options_.cache, cache_limit_bytes); });
}

void Daemon::let_broker_outlive_us(const RunningDeployment& deployment) {
  if (deployment.temporary()) return;
  if (const auto told = broker_.outlive(); !told)
    spdlog::warn("{}: the broker would end with us: {}", deployment.name(), told.error().message);
}

void Daemon::publish(const std::string& name, std::uint64_t epoch, std::uint64_t bytes,
                     std::function<void(Result<>)> done) {
  const auto ask = [this, name, epoch, bytes, done](const Result<>& running) {
    const auto once_more = [this, name, epoch, bytes, done](const Result<>& larger) {
      done(larger ? broker_.publish({name, epoch}, bytes) : larger);
    };
    auto published = running ? broker_.publish({name, epoch}, bytes) : running;
    if (!published && published.error().code == ErrorCode::limit_exceeded &&
        has_room_for_next_epoch()) {
      spdlog::info("{} needs a broker with more memory: all others go on in a new epoch", name);
      waiting_for_broker_.push_back(once_more);
      leave_epoch(name);
      return;
    }
    if (!published && published.error().code == ErrorCode::limit_exceeded)
      published.error().message += broker_.ours()
                                       ? fmt::format(
                                             " (`opsplit down`, then `opsplit up ... --reserve {}` "
                                             "for the first deployment)",
                                             bytes)
                                       : fmt::format(" (start the broker with --pool {})", bytes);
    done(published);
  };
  if (broker_.stopping())  // the last deployment has just ended
    return broker_.stop([this, name, epoch, bytes, done] { publish(name, epoch, bytes, done); });
  if (recovering_ || !waiting_for_broker_.empty()) {
    waiting_for_broker_.push_back(ask);
  } else if (broker_.running()) {
    ask({});
  } else {
    std::vector<std::uint64_t> pools = options_.reserve;
    pools.push_back(bytes);
    start_broker(std::move(pools), ask);
  }
}

void Daemon::start_broker(std::vector<std::uint64_t> pools, std::function<void(Result<>)> done) {
  waiting_for_broker_.push_back(std::move(done));
  broker_.start(pools, [this](const Result<>& started) {
    for (const auto& callback : std::exchange(waiting_for_broker_, {})) callback(started);
  });
}

void Daemon::broker_died(const std::string& reason) {
  if (recovering_) return;  // its end is awaited, or another one's start
  if (!broker_life_.died(Clock::now())) {
    spdlog::error("{}; it died too often: everything is stopped", reason);
    recovering_ = false;
    std::vector<RunningDeployment*> all;
    for (const auto& [name, deployment] : deployments_) all.push_back(deployment.get());
    for (RunningDeployment* deployment : all) stop(*deployment, [] {});
    return;
  }
  spdlog::error("{}; {} deployments go on in a new epoch", reason, deployments_.size());
  leave_epoch();
}

// One deployment's memory on a GPU is lost. Its next epoch needs an arena that the broker has no pool for, so all follow.
void Daemon::epoch_lost(const std::string& name, const std::string& reason, bool goes_on) {
  const auto found = deployments_.find(name);
  if (found == deployments_.end() || shutting_down_) return;
  if (!goes_on) {
    spdlog::error("{}: {}; that was too often: it is stopped", name, reason);
    return stop(*found->second, [] {});
  }
  spdlog::error("{}: {}; {} deployments go on in a new epoch", name, reason, deployments_.size());
  if (!recovering_) leave_epoch();
}

// For all deployments but one, which has not begun. What is ready goes on beside itself in the next
// epoch; what starts begins anew there.
void Daemon::leave_epoch(const std::string& spared) {
  recovering_ = true;
  room_by_ = Clock::now() + longest_wait_for_room;
  auto left = std::make_shared<std::size_t>(1);
  const auto one_less = [this, left] {
    // Not from within a deployment's own stop().
    if (--*left == 0) boost::asio::post(io_, [this] { enter_next_epoch(); });
  };
  for (auto& [name, deployment] : deployments_) {
    if (name == spared) continue;
    if (deployment->phase() == RunningDeployment::Phase::ready) {
      deployment = std::make_shared<RunningDeployment>(deployment);
      continue;
    }
    ++*left;
    deployment->interrupt(one_less);
  }
  if (broker_.running())
    broker_.stop(one_less);
  else
    one_less();
}

void Daemon::enter_next_epoch() {
  recovering_ = false;
  if (shutting_down_ || deployments_.empty()) {
    for (const auto& callback : std::exchange(waiting_for_broker_, {}))
      callback(fail(ErrorCode::unavailable, "the broker has died"));
    if (!std::exchange(shutting_down_, false)) return finish_if_empty();
    return shut_down();
  }
  // There may be no room for it before the earlier ones have ended.
  if (broker_.ours() && !has_room_for_next_epoch() && has_earlier_epochs()) {
    for (const auto& [name, deployment] : deployments_) deployment->make_room();
    recovering_ = true;
    return enter_again_.at(Clock::now() + 20ms, [this] { enter_next_epoch(); });
  }
  start_broker(pools(), [this](const Result<>& running) {
    if (!running) {
      // Clients may still hold all that there is room for: answers of the earlier epoch, say.
      const bool wait_for_room =
          broker_.ours() && Clock::now() < room_by_ && !has_room_for_next_epoch();
      const auto again = wait_for_room ? Clock::now() + 100ms : broker_life_.died(Clock::now());
      if (again) {
        recovering_ = true;
        return enter_again_.at(*again, [this] { enter_next_epoch(); });
      }
    }
    std::vector<std::string> names;
    for (const auto& [name, deployment] : deployments_)
      if (deployment->phase() == RunningDeployment::Phase::stopped && !deployment->ending())
        names.push_back(name);
    for (const std::string& name : names) {
      RunningDeployment& deployment = *deployments_.at(name);
      const std::uint64_t epoch = ++last_epoch_;
      const auto finish = [this, name](const Result<>& started) {
        if (started) {
          spdlog::info("{}: running in the next epoch", name);
          let_broker_outlive_us(*deployments_.at(name));
        } else {
          spdlog::error("{}: {}", name, started.error().message);
          stop(*deployments_.at(name), [] {});
        }
        serve_waiting_clients();
      };
      const Result<> published =
          running ? broker_.publish({name, epoch}, deployment.arena_bytes()) : running;
      // It has died since, or is killed: that is heard of soon, and leads here again.
      if (running && !published &&
          (published.error().code == ErrorCode::unavailable ||
           published.error().code == ErrorCode::timed_out))
        return;
      if (!published) {
        finish(published);
        continue;
      }
      deployment.start(epoch, finish);
    }
    // All of them may have been stopped meanwhile.
    finish_if_empty();
  });
}

// What the broker needs for all deployments.
std::vector<std::uint64_t> Daemon::pools() const {
  std::vector<std::uint64_t> pools = options_.reserve;
  for (const auto& [name, deployment] : deployments_) pools.push_back(deployment->arena_bytes());
  return pools;
}

bool Daemon::has_earlier_epochs() const {
  return std::any_of(deployments_.begin(), deployments_.end(),
                     [](const auto& entry) { return entry.second->has_earlier_epoch(); });
}

bool Daemon::has_room_for_next_epoch() const {
  const auto needed = ipc::broker_bytes(pools());
  const auto free = free_bytes("/dev/shm");
  return broker_.ours() && needed && free && *free >= *needed;
}

void Daemon::stop(RunningDeployment& deployment, std::function<void()> done) {
  const std::string name = deployment.name();
  deployment.stop([this, name, done = std::move(done)] {
    boost::asio::post(io_, [this, name, done] {
      remove(name);
      done();
      finish_if_empty();
    });
  });
}

void Daemon::remove(const std::string& name) {
  const auto found = deployments_.find(name);
  if (found == deployments_.end()) return;
  if (broker_.running() && found->second->epoch() != 0)
    if (const auto withdrawn = broker_.withdraw({name, found->second->epoch()}); !withdrawn)
      spdlog::warn("{}: {}", name, withdrawn.error().message);
  deployments_.erase(found);
  serve_waiting_clients();
}

Result<> Daemon::remove_what_is_stale() const {
  end_stale_device_brokers(context_.device_folder);
  if (broker_.ours()) OPSPLIT_CHECK(remove_stale_broker());
  return remove_stale_files();
}

void Daemon::finish_if_empty() {
  if (!deployments_.empty() || !preparing_.empty() || recovering_) return;
  if (!waiting_for_broker_.empty()) {
    // Ours answers. Nobody else's need be waited for: whoever waits is told, and comes back here.
    if (!broker_.ours()) broker_.stop([] {});
    return;
  }
  broker_.stop([this] {
    std::error_code ignored;
    // Nothing after a broker that ended as it should; what it left otherwise.
    // An `up` may have come meanwhile: what it writes is not stale.
    if (deployments_.empty() && preparing_.empty()) {
      if (const auto removed = remove_what_is_stale(); !removed)
        spdlog::warn("{}", removed.error().message);
      std::filesystem::remove_all(context_.log_folder, ignored);
      std::filesystem::remove(context_.device_folder, ignored);
    }
    if (broker_.ours()) {
      std::filesystem::remove(options_.folder / "broker.sock", ignored);
      std::filesystem::remove(options_.folder / "broker.sock.lock", ignored);
    }
    for (const auto& callback : std::exchange(when_empty_, {})) callback();
    const bool alone = options_.exit_when_alone && connections_.empty();
    if (!shutting_down_ && !options_.exit_when_empty && !alone) return;
    if (!deployments_.empty() || !preparing_.empty()) return;
    // What is queued for a caller goes out before the loop ends.
    boost::asio::post(io_, [this] { io_.stop(); });
  });
}

void Daemon::down(ConnectionId id, const json& request) {
  const std::string name = request.value("deployment", "");
  std::vector<RunningDeployment*> targets;
  for (const auto& [known, deployment] : deployments_)
    if (name.empty() || known == name) targets.push_back(deployment.get());
  std::vector<std::string> unprepared;
  for (const std::string& known : preparing_)
    if (name.empty() || known == name) unprepared.push_back(known);
  const std::size_t count = targets.size() + unprepared.size();
  if (!name.empty() && count == 0)
    return reply(id, Error{ErrorCode::not_found, fmt::format("no deployment '{}'", name)});
  // With nothing left, the answer comes when the broker has ended, too.
  const auto answer = [this, id, count] {
    const bool empty = deployments_.empty() && preparing_.empty();
    const json message = {
        {"ok", true}, {"stopped", count}, {"exiting", empty && options_.exit_when_empty}};
    if (empty)
      when_empty_.push_back([this, id, message] { reply(id, message); });
    else
      reply(id, message);
  };
  if (count == 0) {
    answer();
    return finish_if_empty();
  }
  const auto one_less = [left = std::make_shared<std::size_t>(count), answer] {
    if (--*left == 0) answer();
  };
  for (const std::string& known : unprepared) cancelled_[known].push_back(one_less);
  for (RunningDeployment* deployment : targets) stop(*deployment, one_less);
}

json Daemon::ps(RunningDeployment::Detail detail) const {
  json result = {{"ok", true},
                 {"time_ns", context_.futex.now_ns()},
                 {"pid", own_identity().pid},
                 {"broker", broker_.pid()},
                 {"metrics", options_.metrics},
                 {"deployments", json::array()}};
  for (const auto& [name, deployment] : deployments_)
    result["deployments"].push_back(deployment->status(detail));
  for (const std::string& name : preparing_)
    result["deployments"].push_back({{"name", name}, {"phase", "planning"}});
  return result;
}

void Daemon::set(ConnectionId id, RunningDeployment& deployment, const json& request) {
  const auto op = text(request, "operator");
  const auto cores = text(request, "cores");
  if (!op || !cores) return reply(id, (op ? cores : op).error());
  const auto wanted = parse_core_request(*cores);
  if (!wanted) return reply(id, wanted.error());
  const auto set = deployment.set_cores(*op, *wanted);
  if (!set) return reply(id, set.error());
  reply(id, json{{"ok", true}, {"deployment", deployment.status()}});
}

void Daemon::swap(ConnectionId id, RunningDeployment& deployment, const json& request) {
  const auto op = text(request, "operator");
  const auto name = text(request, "backend");
  if (!op || !name) return reply(id, (op ? name : op).error());
  const auto backend = backend_from_string(*name);
  if (!backend)
    return reply(id, Error{ErrorCode::invalid_input,
                           fmt::format("backend '{}': must be {}", *name, backend_names())});
  if (connections_.at(id)->swapping.lock())
    return reply(id, Error{ErrorCode::refused, "one swap at a time per connection"});
  if (const auto possible = deployment.can_swap(*op, *backend); !possible)
    return reply(id, possible.error());
  const auto weak = deployment.weak_from_this();
  reply(id, json{{"progress", fmt::format("{}/{}: warming up beside the one that serves",
                                          deployment.name(), *op)}});
  const auto asker = connections_.find(id);
  if (asker == connections_.end()) return;  // it did not wait
  asker->second->swapping = weak;
  deployment.swap(*op, *backend, [this, id, weak](const Result<>& swapped) {
    const auto connection = connections_.find(id);
    if (connection == connections_.end()) return;
    connection->second->swapping.reset();
    const auto status = weak.lock();
    if (!swapped || !status)
      return reply(id, swapped ? json{{"ok", true}} : ipc::error_reply(swapped.error()));
    reply(id, json{{"ok", true}, {"deployment", status->status()}});
  });
}

void Daemon::attach_client(ConnectionId id, const std::string& deployment) {
  const auto found = deployments_.find(deployment);
  if (found == deployments_.end() && !preparing_.contains(deployment))
    return reply(id, Error{ErrorCode::not_found,
                           fmt::format("no deployment '{}': see `opsplit ps`", deployment)});
  waiting_clients_.push_back({id, deployment});
  serve_waiting_clients();
}

// Those whose deployment is ready get their answer; the others wait, since it starts or restarts.
void Daemon::serve_waiting_clients() {
  for (const WaitingClient& client : std::exchange(waiting_clients_, {})) {
    const auto connection = connections_.find(client.connection);
    if (connection == connections_.end()) continue;
    const auto found = deployments_.find(client.deployment);
    if (found == deployments_.end() && !preparing_.contains(client.deployment)) {
      reply(client.connection,
            Error{ErrorCode::not_found, fmt::format("no deployment '{}'", client.deployment)});
      continue;
    }
    if (found == deployments_.end() || found->second->phase() != RunningDeployment::Phase::ready) {
      waiting_clients_.push_back(client);
      continue;
    }
    if (connection->second->client != 0) {
      reply(client.connection, Error{ErrorCode::refused, "one client per connection"});
      continue;
    }
    const auto process = identify(connection->second->socket.peer().pid);
    const auto attachment =
        process ? found->second->attach_client(*process) : tl::unexpected(process.error());
    if (!attachment) {
      reply(client.connection, attachment.error());
      continue;
    }
    connection->second->deployment = found->second;
    connection->second->client = attachment->launch;
    reply(client.connection, ipc::to_json(*attachment));
  }
}

Result<> Daemon::introduce_client(Connection& connection, RunningDeployment& deployment,
                                  const json& request) {
  if (connection.client != 0) return fail(ErrorCode::refused, "one client per connection");
  OPSPLIT_TRY(const ProcessIdentity process, identify(connection.socket.peer().pid));
  const auto launch = request.at("launch").get<ipc::LaunchNumber>();
  OPSPLIT_CHECK(
      deployment.introduce_client(process, request.at("epoch").get<std::uint64_t>(), launch));
  connection.deployment = deployment.weak_from_this();
  connection.client = launch;
  return {};
}

void Daemon::shut_down() {
  if (shutting_down_) return;
  shutting_down_ = true;
  if (recovering_) return;  // enter_next_epoch() looks at shutting_down_
  std::vector<RunningDeployment*> targets;
  for (const auto& [name, deployment] : deployments_) targets.push_back(deployment.get());
  if (targets.empty()) return finish_if_empty();
  for (RunningDeployment* deployment : targets) stop(*deployment, [] {});
}

}  // namespace opsplit::daemon
