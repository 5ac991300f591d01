// A deployment that runs: its board, its instances and its clients, in one epoch.
//
//   planned --start()--> starting --every instance ready--> ready --stop()--> stopping --> stopped
//      |                    |                                 |                 ^ ^           |
//      |                    |                                 +---> retiring ---+ |           |
//      |                    +--an instance dies or fails, or stop()---------------+           |
//      +--stop()--> stopped <-- last process gone                          start(next epoch) -+
//
//   take_over() leads from planned to ready: an earlier opsplitd made it, and has died since.
//
// Operators that the deployment file leaves to whoever attaches (backend: attach) are not waited for, as
// long as there are others: requests wait for them.
//
// swap() puts another program in an operator's place, while requests flow:
//
//   old instances   ready ------------------------------> stopping --> gone, and forgotten
//   replacements    starting, or awaited --> standby ---> ready
//                   (they load, and run each task once)
//                                         ^ all of them are there: the new ones claim, the old ones commit what
//                                           they hold, and end
//
// Until then a replacement's end, or its asker's, ends them all, and nothing has changed.
//
// When the broker of its epoch has ended, the deployment goes on as another object, which begins with
// `stopped`, takes over folder and figures, and starts in the next epoch beside this one. This one is
// `retiring`: it answers until that one is ready; then it takes no new requests, and stops when those
// under way have been answered, or have taken too long (ipc::longest_retirement). It stops at once when
// an operator has died for good. What is lost then, clients send again.
//
// Operators on a GPU are launched once the device broker of that GPU serves; there is one for each GPU and epoch. Its
// death loses the epoch, since nobody knows what is in its memory then: the next one follows as if the broker had
// died, for all deployments, and nothing that needs the GPU is answered here any more. It ends when all operators have,
// before the epoch does.
//
// A death in the first `starting` ends the start: what cannot load will not load better the next time.
// Later, and in `ready`, the instance is restarted (daemon/instance.hpp) after its claims were given
// back. In `retiring` only a standby takes its place.
//
// Runs on the event loop's thread; all callbacks come from there.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/device_broker_process.hpp"
#include "daemon/events.hpp"
#include "daemon/instance.hpp"
#include "daemon/launcher.hpp"
#include "daemon/preparation.hpp"
#include "daemon/progress.hpp"
#include "daemon/saved_deployment.hpp"
#include "ipc/board.hpp"
#include "ipc/counters.hpp"
#include "ipc/futex.hpp"
#include "ipc/handover.hpp"
#include "ipc/session.hpp"

namespace opsplit::daemon {

// What a deployment needs of opsplitd; outlives it.
struct Context {
  boost::asio::io_context& io;
  Launcher& launcher;
  ipc::Futex& futex;
  std::filesystem::path socket;    // that operators and clients attach to
  std::filesystem::path programs;  // the folder of opsplit-operator
  std::filesystem::path log_folder;
  std::filesystem::path device_folder = {};  // of the device brokers' sockets
  // Memory on a GPU is lost, and with it the deployment's epoch: it goes on in the next one, or, where that has happened
  // too often, is stopped.
  std::function<void(const std::string& deployment, const std::string& reason, bool goes_on)>
      epoch_lost = {};
};

// Which operators a program takes that attaches.
struct RunsOn {
  bool cpus = true;
  bool gpu = false;
};

class RunningDeployment : public std::enable_shared_from_this<RunningDeployment> {
 public:
  enum class Phase { planned, starting, ready, retiring, stopping, stopped };

  // What has been planned and written into the folder of its first epoch. The graph is let go. One
  // that is temporary ends with this opsplitd, however that ends; others outlive it.
  RunningDeployment(Context& context, Planned planned, std::string folder, bool temporary);
  // The next epoch of one that is ready, which retires.
  explicit RunningDeployment(std::shared_ptr<RunningDeployment> earlier);
  ~RunningDeployment();  // kills what still runs, and removes board and folder

  // Begins an epoch, whose arena the broker publishes soon, or has published; the folder moves to
  // its name. Only when planned or stopped. `started` is called once: when every instance is ready,
  // or with the reason why not (it is stopped then).
  void start(std::uint64_t epoch, std::function<void(Result<>)> started);
  // Goes on with what an earlier opsplitd started and has kept: watches those that live, starts those
  // anew that do not. Only when planned. Stopped afterwards if it was between two epochs: start() it in
  // the next one. Error: it was not ready, or nothing of it lives; what lives ends with this object.
  Result<> take_over(const Standing& standing);
  // Whoever waits for the start is told why it failed; it is stopped then. Only when starting.
  void fail_start(Error error);
  // Ends the epoch, and an earlier one that retires: clients learn it, operators are told to end, and
  // after a grace period killed. `stopped` is called once no process is left. Whoever waits for a start
  // is told that it failed.
  void stop(std::function<void()> stopped);
  // The same, but another start() follows: whoever waits for this one waits for that. One that is
  // only planned stays so.
  void interrupt(std::function<void()> stopped);

  // An operator's process asks for its part: one that we launched, known by its pid, or one that
  // somebody else started, which names the operator whose instance it wants to be.
  // Such a one also says which ONNX ops it can run, and on what; who lacks any of the operator's is refused.
  Result<ipc::Attachment> attach_operator(pid_t pid, std::string_view op,
                                          const std::set<std::string>& can_run = {},
                                          RunsOn runs_on = {});
  // It has loaded its part.
  Result<> operator_ready(pid_t pid);
  // Gives an operator other cores, and divides anew what is left for those that ask for none. Returns
  // once every process has its affinity; waiting and threads follow by themselves. Holds for restarts
  // and later epochs, too. Error: nothing has changed.
  Result<> set_cores(std::string_view op, const CoreRequest& request);
  // Whether swap() would begin.
  [[nodiscard]] Result<> can_swap(std::string_view op, Backend backend) const;
  // `swapped` is called once the old instances have ended, or with the reason why they serve on. With the
  // backend `attach` somebody else starts the replacements, as many as there are in awaited().
  void swap(std::string_view op, Backend backend, std::function<void(Result<>)> swapped);
  // The replacements of a swap that has not come about end, and whoever waits is told `reason`.
  void abandon_swap(const Error& reason);
  // What is in force for this process.
  Result<ipc::AssignedCores> assigned_cores(pid_t pid);
  // A client. Its slots are given back once the kernel confirms its death.
  Result<ipc::Attachment> attach_client(const ProcessIdentity& client);
  // A client that an earlier opsplitd knew says that this is its connection. Error: it is not known.
  Result<> introduce_client(const ProcessIdentity& client, std::uint64_t epoch,
                            ipc::LaunchNumber launch);
  // Its connection ended. It may live on with requests in flight, and keeps its slots until then.
  void client_disconnected(ipc::LaunchNumber client);

  // Operators with instances that nobody has attached as.
  [[nodiscard]] std::vector<std::string> awaited() const;
  [[nodiscard]] Phase phase() const { return phase_; }
  // It has been told to stop, for good.
  [[nodiscard]] bool ending() const { return ending_; }
  // Whether an earlier epoch of it is still there.
  [[nodiscard]] bool has_earlier_epoch() const { return earlier_ != nullptr; }
  // The earlier one ends as soon as it can, though this one is not ready: its memory is needed.
  void make_room();
  [[nodiscard]] const std::string& name() const { return planned_.deployment.name; }
  [[nodiscard]] bool temporary() const { return temporary_; }
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  [[nodiscard]] std::uint64_t arena_bytes() const { return planned_.arena_bytes; }
  // Of the device brokers that serve this epoch.
  [[nodiscard]] std::set<std::filesystem::path> device_sockets() const;
  // For `ps`: names, states, and figures that only grow while the deployment lasts, restarts and
  // epochs included. With histograms also those behind the quantiles: [bucket, count, ...].
  enum class Detail { quantiles, histograms };
  [[nodiscard]] nlohmann::json status(Detail detail = Detail::quantiles) const;

 private:
  struct RunningInstance {
    RunningInstance(boost::asio::io_context& io, std::uint32_t operator_index, Backend of)
        : op(operator_index), backend(of), life(RestartPolicy{}), timer(io) {}

    std::uint32_t op;
    Backend backend;
    bool replaces = false;   // it is to take another one's place, and does not claim yet
    std::uint32_t seat = 0;  // at its operator's doorbell
    Instance life;
    Process process;
    bool running = false;              // `process` has not been reaped
    mutable std::uint64_t cpu_ns = 0;  // of `process`, when we looked last
    ipc::LaunchNumber launch = 0;
    CpuSet withheld;  // of the CPUs assigned to it: the kernel did not give them
    std::filesystem::path log;
    std::string last_end;  // how it ended last
    Watch death;
    Timer timer;  // to restart it, or to kill it
  };

  struct Swap {
    std::uint32_t op;
    Backend backend;
    std::function<void(Result<>)> swapped;
    bool switched = false;  // the new ones claim
  };

  struct AttachedClient {
    ProcessIdentity identity;
    FileDescriptor pidfd;
    Watch death;
    bool connected = true;
  };

  Result<> begin_epoch(std::uint64_t epoch);
  Result<> supervise_board(ipc::Board board, std::uint64_t epoch);
  Result<> make_instances();
  RunningInstance& add_instance(std::uint32_t op, std::uint32_t seat, Backend backend);
  Result<> take_over_epoch(const Standing& standing);
  void take_over_participant(ipc::LaunchNumber launch);
  void keep_for_successor() const;
  Result<ipc::LaunchNumber> new_launch_number();
  void kill_operators_of_earlier_epochs(std::uint64_t epoch) const;
  [[nodiscard]] ipc::Attachment attachment_of(ipc::LaunchNumber launch) const;
  [[nodiscard]] ipc::AssignedCores cores_of(const RunningInstance& instance) const;
  Result<> confine(RunningInstance& instance, const CpuSet& cpus);
  Result<> move_instances(const std::vector<CoreAssignment>& cores);
  [[nodiscard]] bool follows_cores(const RunningInstance& instance) const;
  [[nodiscard]] std::string degraded(const RunningInstance& instance) const;
  void register_participant(ipc::LaunchNumber launch, const ProcessIdentity& identity,
                            std::uint32_t op, std::uint32_t seat, ipc::Mode mode);
  void watch_client(ipc::LaunchNumber launch, const ProcessIdentity& identity,
                    FileDescriptor pidfd);
  void release_participant(ipc::LaunchNumber launch);
  Result<> launch(RunningInstance& instance);
  Result<> take_in(pid_t pid, std::string_view op, const std::set<std::string>& can_run,
                   RunsOn runs_on);
  Result<> start_replacements(std::uint32_t op, Backend backend);
  void become_ready_if_complete();
  void switch_to_replacements();
  void forget_those_gone();
  void take_seat(RunningInstance& instance, std::uint32_t seat) const;
  [[nodiscard]] static bool attaches(const RunningInstance& instance) {
    return instance.backend == Backend::attach;
  }
  [[nodiscard]] std::size_t number_of(const RunningInstance& instance) const;
  void supervise(RunningInstance& instance);
  void watch(RunningInstance& instance);
  void on_death(RunningInstance& instance);
  void restart_at_or_give_up(RunningInstance& instance, std::optional<Deadline> restart_at);
  void on_client_death(ipc::LaunchNumber launch);
  void retire(std::function<void()> stopped);
  void take_no_more_requests();
  void go_on_retiring();
  void end_instances();
  void end_instance(RunningInstance& instance, std::chrono::nanoseconds grace);
  void end_when_done(RunningInstance& instance);
  void kill_instances();
  void earlier_has_ended();
  void finish_stop_if_done();
  void tick();
  void refuse_requests_of_failed_operators();
  void divide_cores_by_measured_cost();
  void claims_or_stands_by(RunningInstance& instance);
  void replace_with_standby(std::uint32_t op);
  void kill_those_that_hang();
  Result<> start_device_brokers();
  bool take_over_device_brokers();
  void add_device_brokers();
  void launch_operators_on(std::int32_t gpu);
  [[nodiscard]] std::string of_gpu(std::int32_t gpu, const std::string& reason) const;
  void device_broker_ended(std::int32_t gpu, const std::string& reason);
  void lose_epoch(std::int32_t gpu, const std::string& reason);
  void lose_retiring_epoch();
  void look_for_lost_memory(const RunningInstance& instance);
  [[nodiscard]] bool device_brokers_have_ended();
  [[nodiscard]] bool is_on_gpu(const RunningInstance& instance) const;
  Result<ipc::AssignedGpu> assigned_gpu(const RunningInstance& instance) const;
  [[nodiscard]] nlohmann::json gpu_status() const;
  RunningInstance* find(pid_t pid);
  [[nodiscard]] std::string describe(const RunningInstance& instance) const;
  void end_epoch();
  void remember(const RunningInstance& instance);
  [[nodiscard]] std::uint64_t requests_done() const;
  [[nodiscard]] std::uint64_t own_requests_done() const;
  [[nodiscard]] nlohmann::json status(const RunningInstance& instance, Detail detail) const;

  // What the processes of one operator and seat have used and counted.
  struct Past {
    ipc::Counters counters;
    std::uint64_t cpu_ns = 0;
    int restarts = 0;  // in earlier epochs

    void add(const Past& other);
  };
  [[nodiscard]] Past used_so_far(const RunningInstance& instance) const;
  [[nodiscard]] ipc::Counters clients_so_far() const;

  Context& context_;
  Planned planned_;
  std::string folder_;
  bool temporary_;
  Phase phase_ = Phase::planned;
  bool was_ready_ = false;  // in this epoch or an earlier one
  bool ending_ = false;     // no start() follows
  bool costs_measured_ = false;
  std::shared_ptr<RunningDeployment> earlier_;  // that retires
  Deadline end_of_retirement_{};
  std::uint64_t epoch_ = 0;
  std::unique_ptr<ipc::Board> board_;
  std::unique_ptr<ipc::Handover> handover_;
  ipc::LaunchNumber own_launch_ = 0;  // ours, to fail the tasks of failed operators with
  std::list<RunningInstance> instances_;
  std::vector<std::unique_ptr<DeviceBrokerProcess>> device_brokers_;  // by the plan's number
  Instance device_broker_life_;  // of all of them, over all epochs
  bool epoch_lost_ = false;
  std::optional<Swap> swap_;  // that is under way
  Progress progress_;
  std::map<ipc::LaunchNumber, AttachedClient> clients_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Past>
      past_;  // of the dead, by operator and seat
  ipc::Counters past_clients_;
  std::uint64_t past_requests_ = 0;  // of earlier epochs
  std::function<void(Result<>)> started_;
  std::function<void()> stopped_;
  Timer tick_;
};

}  // namespace opsplit::daemon
