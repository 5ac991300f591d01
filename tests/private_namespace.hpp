// RouDi's names are fixed, so tests that start one must not meet each other, or a broker that runs
// on this machine.
#pragma once

namespace opsplit::test {

// Gives this process, and all it starts, a /tmp, a /dev/shm and a cache of its own, empty, that vanish with
// the last of them. Call first thing in main(), while there is one thread: it execs nothing, but
// moves the process into new mount and IPC namespaces (as root, or in a user namespace where the
// system allows that).
// Where it may not: false, and the process waits for a machine-wide lock, which it and all it starts
// hold until they end; the tests then use the real /tmp and /dev/shm, and opsplitd the real cache.
// What it starts may call this, too: it does not wait for the lock that is held for it.
bool enter_private_namespace();

// What the first call of this process returned.
bool in_private_namespace();

}  // namespace opsplit::test
