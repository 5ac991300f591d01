"""A transport of bench/transports: hands over a small payload, which comes as it was sent, and leaves nothing behind:
at its end, after Ctrl-C, and after SIGKILL. Exits with 77 where it is not built, or its server not installed.

usage: transports_test.py BIN_FOLDER TRANSPORT
"""

import ctypes
import glob
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

PLACES = ("/tmp", "/var/tmp", "/dev/shm")
PR_SET_CHILD_SUBREAPER = 36
SKIPPED = 77


def expect(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def children_of(parent):
    return [
        child
        for task in glob.glob(f"/proc/{parent}/task/*/children")
        if os.path.exists(task)
        for child in map(int, pathlib.Path(task).read_text().split())
    ]


def names_in_places():
    """But those of tests that run beside this one."""
    names = [path for place in PLACES for path in pathlib.Path(place).glob("*opsplit*")]
    return {str(path) for path in names if not path.name.startswith("opsplit-test-")}


def nothing_is_left(before, when):
    """Orphans come to us: all have ended once we have no child."""
    deadline = time.monotonic() + 30
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            break
        left = [pathlib.Path(f"/proc/{child}/cmdline").read_text() for child in children_of(os.getpid())]
        expect(time.monotonic() < deadline, f"{when}, these processes do not end: {left}")
        time.sleep(0.01)
    left = names_in_places() - before - {"/tmp/opsplit.tests.lock"}
    expect(not left, f"{when}, there are {sorted(left)}")


def interrupt(command, which, processes, before):
    """Once all are there: the benchmark, broker, remover of files, both members, and servers."""
    benchmark = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(children_of(benchmark.pid)) + 1 < processes:
        expect(benchmark.poll() is None and time.monotonic() < deadline, "the benchmark did not get under way")
        time.sleep(0.002)
    if which == signal.SIGINT:
        os.killpg(benchmark.pid, which)  # Ctrl-C reaches all of them
    else:
        benchmark.kill()
    benchmark.wait()
    nothing_is_left(before, f"after {which.name}")


def main():
    program = pathlib.Path(sys.argv[1]) / "transports"
    transport = sys.argv[2]
    if not program.exists():
        print(f"skipped: {program} is not built")
        return SKIPPED
    expect(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, "prctl")
    before = names_in_places()
    command = [program, f"--benchmark_filter=^{transport}/.*/4 KB/touched", "--benchmark_repetitions=1"]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as summary:
        ran = subprocess.run([*command, "--summary", summary.name], capture_output=True, text=True)
        left_out = [line for line in ran.stdout.splitlines() if line.startswith("left out: ")]
        print(ran.stdout[ran.stdout.rfind("one hop") :], ran.stderr, sep="")
        expect(ran.returncode == 0, f"exit code {ran.returncode}")
        without = [line for line in left_out if transport in line]
        if without:
            print(f"skipped: {without[0]}")
            return SKIPPED
        expect(f'"{transport}"' in summary.read(), f"no figure of {transport}")
    nothing_is_left(before, "after the end")
    servers = 2 if transport == "RabbitMQ" else 0
    for which in (signal.SIGINT, signal.SIGKILL):
        interrupt([*command[:2], "--benchmark_repetitions=1000"], which, 5 + servers, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
