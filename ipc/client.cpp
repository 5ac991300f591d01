#include "ipc/client.hpp"

#include <algorithm>
#include <mutex>
#include <thread>
#include <utility>

#include "ipc/message_socket.hpp"

namespace opsplit::ipc {
namespace {

using std::chrono::nanoseconds;

// However a wake-up was lost, a sleeper looks again after this; and whether opsplitd is there, which is
// a system call.
constexpr std::uint64_t look_again_ns = 10'000'000;

std::uint64_t deadline_after(std::uint64_t now, nanoseconds timeout) {
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0));
  return now + std::min<std::uint64_t>(ns, INT64_MAX - now);
}

// Sleeps on `word` unless `done`, announced in `waiters` so that nobody makes a system call for
// nothing; `done` is looked at again after the announcement.
template <class Done>
void sleep_once(Futex& futex, std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& waiters,
                std::uint64_t deadline_ns, Done done) {
  waiters.fetch_add(1);
  const std::uint32_t seen = word.load();
  if (!done()) futex.wait(word, seen, std::min(deadline_ns, futex.now_ns() + look_again_ns));
  waiters.fetch_sub(1);
}

}  // namespace

// To a deployment, through its epochs. Thread safe; what a client and its requests share.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(Client::Options options)
      : options_(std::move(options)), futex_(std::make_shared<SystemFutex>()) {}

  // In the epoch that takes new requests.
  Result<std::shared_ptr<Session>> session(std::uint64_t deadline);
  Result<Request> begin(std::uint64_t deadline_ns);
  [[nodiscard]] std::uint64_t deadline() const {
    return deadline_after(futex_->now_ns(), options_.timeout);
  }

 private:
  Result<std::shared_ptr<Session>> attach();
  void introduce_ourselves();

  Client::Options options_;
  std::shared_ptr<Futex> futex_;
  std::mutex mutex_;  // guards what follows
  std::shared_ptr<Session> session_;
  bool followed_ = false;        // the last session's epoch, by another one
  std::uint64_t looked_ns_ = 0;  // when we last looked whether opsplitd is there
};

Request::Request(std::shared_ptr<Session> session, SlotHold hold,
                 std::shared_ptr<Connection> connection)
    : session_(std::move(session)), hold_(hold), connection_(std::move(connection)) {}

Request::Request(Request&& other) noexcept = default;

Request& Request::operator=(Request&& other) noexcept {
  if (this != &other) {
    give_back();
    session_ = std::move(other.session_);
    hold_ = other.hold_;
    connection_ = std::move(other.connection_);
    counted_ = other.counted_;
  }
  return *this;
}

Request::~Request() { give_back(); }

void Request::give_back() {
  if (!session_) return;
  session_->in_flight().fetch_sub(1);  // first: whom the close wakes may take the slot at once
  session_->handover().close(hold_, session_->attachment().launch);
  session_.reset();
}

std::span<std::byte> Request::input(std::size_t index) {
  const PlacedTensor place =
      session_->places().write(hold_.slot, session_->plan().inputs.at(index));
  return {place.data, place.bytes};
}

Result<> Request::submit() {
  if (send()) return {};
  return send_again(
      {ErrorCode::epoch_lost, fmt::format("deployment '{}' was stopped before the request was sent",
                                          session_->attachment().deployment)},
      connection_->deadline());
}

bool Request::send() {
  for (const std::int32_t tensor : session_->plan().inputs)
    session_->places().write_header(hold_.slot, hold_.generation, tensor);
  Presence presence = this->presence();  // whom it wakes may take the CPU at once
  presence.appear();
  return session_->handover().submit(hold_, session_->attachment().launch);
}

// In the next epoch. Nothing but the client ever writes to the place of an input.
Result<> Request::send_again(Error reason, std::uint64_t deadline_ns) {
  auto next = connection_->begin(deadline_ns);
  if (!next) {
    reason.message += fmt::format(", and cannot be sent again: {}", next.error().message);
    return tl::unexpected(std::move(reason));
  }
  for (std::size_t index = 0; index < session_->plan().inputs.size(); ++index)
    std::ranges::copy(input(index), next->input(index).begin());
  *this = std::move(*next);
  (void)send();  // whoever waits finds out if this one is over, too
  return {};
}

// Of threads that wait for a slot each; launch numbers begin at the other end.
Presence Request::presence() const {
  return {session_->board(), session_->futex(), max_depth - 1 - hold_.slot};
}

bool Request::ready() const { return session_->handover().finished(hold_); }

Result<> Request::wait(nanoseconds timeout) {
  const std::uint64_t deadline = deadline_after(session_->futex().now_ns(), timeout);
  auto answered = wait_until(deadline);
  while (!answered && answered.error().code == ErrorCode::epoch_lost) {
    OPSPLIT_CHECK(send_again(std::move(answered.error()), deadline));
    answered = wait_until(deadline);
  }
  if (!answered && answered.error().code == ErrorCode::timed_out)
    return fail(ErrorCode::timed_out, "deployment '{}': no answer within {} ms",
                session_->attachment().deployment, timeout.count() / 1'000'000);
  return answered;
}

Result<> Request::wait_until(std::uint64_t deadline) {
  Handover& handover = session_->handover();
  Futex& futex = session_->futex();
  const std::string& deployment = session_->attachment().deployment;
  Participant& self = session_->board().participant(session_->attachment().launch);
  const std::uint64_t start = futex.now_ns();
  std::uint64_t look_at = start + look_again_ns;  // whether opsplitd is there
  Bed& bed = session_->board().slot(hold_.slot).bed;
  const auto ended = [&] { return ready() || session_->over(); };
  Presence presence = this->presence();
  stay_awake(presence, session_->staying_awake(), futex, start,
             std::min(awake_ns, deadline - std::min(deadline, start)), ended);
  while (!ready()) {
    if (session_->over())
      return fail(ErrorCode::epoch_lost,
                  "deployment '{}' was stopped or restarted under the request", deployment);
    const std::uint64_t now = futex.now_ns();
    if (now >= deadline) return fail(ErrorCode::timed_out, "no answer");
    if (now >= look_at) {
      look_at = now + look_again_ns;
      if (session_->ended() && !ready())
        return fail(ErrorCode::epoch_lost, "opsplitd ended under a request of deployment '{}'",
                    deployment);
    }
    presence.lie_down(bed);
    sleep_once(futex, self.bell, self.bell_waiters, deadline, ended);
    bed.bit.store(0, std::memory_order_relaxed);
    presence.appear();
  }
  if (const auto task = handover.failed_task(hold_)) {
    const PlannedTask& planned = session_->plan().tasks[*task];
    return fail(ErrorCode::operator_failed, "operator '{}' failed at '{}': {}",
                session_->plan().operators[static_cast<std::size_t>(planned.op)].name, planned.name,
                handover.failure(hold_.slot, *task));
  }
  count();
  return {};
}

// For `ps`. Requests of other threads count in the same words, unlike those of an instance.
void Request::count() {
  if (std::exchange(counted_, true) || !session_->attachment().cores.worker.measure) return;
  const LaunchNumber launch = session_->attachment().launch;
  const std::uint64_t ns = session_->handover().duration_ns(hold_);
  Participant& self = session_->board().participant(launch);
  self.tasks_done.fetch_add(1, std::memory_order_relaxed);
  self.busy_ns.fetch_add(ns, std::memory_order_relaxed);
  session_->board().durations(launch).run.counts[bucket_of(ns)].fetch_add(
      1, std::memory_order_relaxed);
}

Result<OutputTensor> Request::output(std::size_t index) const {
  const std::int32_t tensor = session_->plan().outputs.at(index);
  OPSPLIT_TRY(const PlacedTensor placed,
              session_->places().read(hold_.slot, hold_.generation, tensor));
  if (placed.layout != Layout::row_major)
    return fail(ErrorCode::invalid_input, "output '{}' came in layout {}, must be {}",
                session_->plan().tensors[static_cast<std::size_t>(tensor)].name,
                to_string(placed.layout), to_string(Layout::row_major));
  return OutputTensor{placed.type, {placed.data, placed.bytes}};
}

std::uint64_t Request::bytes_copied() const {
  std::uint64_t sum = 0;
  for (std::uint32_t task = 0; task < session_->plan().tasks.size(); ++task)
    sum += session_->board().task(hold_.slot, task).bytes_copied.load(std::memory_order_relaxed);
  return sum;
}

Result<std::shared_ptr<Session>> Connection::session(std::uint64_t deadline) {
  const std::lock_guard lock(mutex_);
  if (session_ && !session_->retiring()) {
    const std::uint64_t now = futex_->now_ns();
    if (now - looked_ns_ < look_again_ns) return session_;
    looked_ns_ = now;
    if (session_->supervised()) return session_;
    if (session_->attachment().outlives && !session_->is_followed()) {
      introduce_ourselves();
      return session_;
    }
  }
  // The next epoch may need the memory of this one, which requests under way hold as long as they need it.
  if (session_) followed_ = session_->is_followed();
  session_.reset();
  // The opsplitd that starts it may have to be started first.
  auto attached = attach();
  const auto may_come = [&] {
    return attached.error().code == ErrorCode::unavailable ||
           attached.error().code == ErrorCode::timed_out;  // it hangs, until its successor ends it
  };
  while (!attached && may_come() && followed_ && futex_->now_ns() < deadline) {
    std::this_thread::sleep_for(nanoseconds(look_again_ns));
    attached = attach();
  }
  if (attached) session_ = *attached;
  return attached;
}

// To the opsplitd that has taken over, if there is one by now: so it learns when we leave. Its reply
// changes nothing, and is not waited for.
void Connection::introduce_ourselves() {
  auto socket = MessageSocket::connect(options_.socket, Clock::now());
  if (socket &&
      socket->queue({{"op", "introduce_client"},
                     {"version", OPSPLIT_VERSION},
                     {"deployment", options_.deployment},
                     {"epoch", session_->attachment().epoch},
                     {"launch", session_->attachment().launch}}) &&
      socket->flush())
    session_->keep(std::make_unique<MessageSocket>(std::move(*socket)));
}

Result<std::shared_ptr<Session>> Connection::attach() {
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(options_.timeout);
  OPSPLIT_TRY(MessageSocket socket, MessageSocket::connect(options_.socket, deadline));
  OPSPLIT_TRY(const nlohmann::json reply, socket.call({{"op", "attach_client"},
                                                       {"version", OPSPLIT_VERSION},
                                                       {"deployment", options_.deployment}},
                                                      deadline));
  OPSPLIT_TRY(const Attachment attachment, attachment_from_json(reply));
  OPSPLIT_TRY(auto session, Session::open(attachment, futex_, deadline));
  session->keep(std::make_unique<MessageSocket>(std::move(socket)));
  return session;
}

Result<Request> Connection::begin(std::uint64_t deadline) {
  while (true) {
    OPSPLIT_TRY(const auto session, this->session(std::max(deadline, this->deadline())));
    const Attachment& attachment = session->attachment();
    std::optional<SlotHold> hold;
    const auto take = [&] {
      if (session->in_flight().fetch_add(1) < attachment.slots_per_client)
        hold = session->handover().take_slot(attachment.launch);
      if (!hold) session->in_flight().fetch_sub(1);
      return hold.has_value();
    };
    if (take()) return Request(session, *hold, shared_from_this());
    if (futex_->now_ns() >= deadline)
      return fail(ErrorCode::unavailable,
                  "deployment '{}': all {} slots are taken ({} by this client, which may have {})",
                  attachment.deployment, attachment.depth, session->in_flight().load(),
                  attachment.slots_per_client);
    BoardHeader& header = session->board().header();
    sleep_once(*futex_, header.slots_freed, header.slot_waiters, deadline,
               [&] { return take() || session->retiring(); });
    if (hold) return Request(session, *hold, shared_from_this());
  }
}

Client::Client(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}

Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::connect(Options options) {
  std::unique_ptr<Client> client(new Client(std::make_shared<Connection>(std::move(options))));
  OPSPLIT_TRY(const auto session, client->connection_->session(client->connection_->deadline()));
  const auto specs = [&](const std::vector<std::int32_t>& tensors) {
    std::vector<TensorSpec> result;
    for (const std::int32_t tensor : tensors) {
      const PlannedTensor& planned = session->plan().tensors[static_cast<std::size_t>(tensor)];
      result.push_back({planned.name, planned.type, planned.varies});
    }
    return result;
  };
  client->inputs_ = specs(session->plan().inputs);
  client->outputs_ = specs(session->plan().outputs);
  return client;
}

Result<Request> Client::begin(nanoseconds wait_for_slot) {
  return connection_->begin(deadline_after(SystemFutex().now_ns(), wait_for_slot));
}

}  // namespace opsplit::ipc
