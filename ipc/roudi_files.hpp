// The files of iceoryx's RouDi, by name: which they are, whether a RouDi that is not ours uses
// them, and how they go. iceoryx fixes the names, so there is one RouDi per /tmp and /dev/shm:
//
//   /dev/shm/iceoryx_mgmt      management segment, ~67 MB: ports, queues, the pools' free lists
//   /dev/shm/GROUP             the pools' memory; named after this process's group ("root", say)
//   /tmp/iox-unique-roudi.lock flock() held by RouDi for its life
//   /tmp/roudi                 the socket at which applications register
//   /tmp/roudi.lock            flock() that belongs to the socket
//   /tmp/opsplit-broker        socket of the broker's own runtime, removed as soon as it runs
//   /tmp/opsplit-broker.lock   flock() that belongs to that socket, likewise
//   /tmp/opsplit.runtime.*     the same two of a process that attaches; there for milliseconds
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/system.hpp"

namespace opsplit::ipc {

inline constexpr const char* broker_runtime_name = "opsplit-broker";

// iceoryx looks the user and the group up by name, and terminates if they have none.
Result<std::string> group_name();

std::vector<std::filesystem::path> segment_files(const std::string& group);
std::vector<std::filesystem::path> socket_and_lock_files();
// Of processes that are attaching: this user's. With no broker they attach in vain.
std::vector<std::filesystem::path> runtime_files();

// Inode of the management segment, 0 if there is none: tells ours from a foreign one.
std::uint64_t management_segment_inode();

// Error refused, naming the process, if a RouDi runs here: one that holds iceoryx's locks, or one
// with a /tmp of its own whose management segment is in use. `our_last` is the inode that the last
// broker recorded: its segment may still be mapped by processes of its epoch, and that is fine.
Result<> refuse_foreign_roudi(std::uint64_t our_last);

// Takes the broker's lock (broker_lock_path) and removes what a broker that was killed has left.
// Error refused: a broker runs, or a foreign RouDi.
Result<FileDescriptor> take_over_from_dead_broker();

// Whoever calls this holds the broker's lock. Errors are ignored: what is gone is gone.
void remove_files(const std::vector<std::filesystem::path>& files);

}  // namespace opsplit::ipc
