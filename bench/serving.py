"""What the contenders in Python share: a model that is loaded once and then asked on commands, as
bench/opsplit_contender.cpp describes them."""

import argparse
import ctypes
import json
import os
import pathlib
import signal
import sys
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "tools"))
import seeded


def parse(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--inputs", type=pathlib.Path, required=True, help="folder with a .npy for each input")
    parser.add_argument("--answers", type=pathlib.Path, required=True, help="folder for the outputs")
    return parser


def end_with_parent():
    """And on Ctrl-C, without a traceback."""
    death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def cpus():
    """How many threads this process may have: one for each CPU that it was started with."""
    return len(os.sched_getaffinity(0))


def read_inputs(names, folder):
    return {name: np.load(folder / seeded.file_name(name)) for name in names}


def timed(ask):
    """Nanoseconds from inputs in place to outputs that can be read."""
    ask.write_inputs()
    start = time.perf_counter_ns()
    ask()
    return time.perf_counter_ns() - start


def fastest(candidates):
    """The name of the fastest of {name: ask}, which take turns after a warm-up."""
    times = {name: [] for name in candidates}
    for ask in candidates.values():
        timed(ask)
    end = time.monotonic() + 0.5 * len(candidates)
    while time.monotonic() < end or len(next(iter(times.values()))) < 3:
        for name, ask in candidates.items():
            times[name].append(timed(ask))
    return min(times, key=lambda name: np.median(times[name]))


def load(asks, seconds):
    """Answers per second at full load, a thread for each of `asks`: from the first to the last that came after a
    warm-up of a fifth of the time."""
    start = time.monotonic()
    answered = [[] for _ in asks]

    def work(ask, times):
        while time.monotonic() < start + seconds:
            timed(ask)
            times.append(time.monotonic())

    threads = [threading.Thread(target=work, args=pair) for pair in zip(asks, answered)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = [[at for at in times if at >= start + seconds / 5] for times in answered]
    return {"per_second": sum((len(times) - 1) / (times[-1] - times[0]) for times in counted if len(times) > 1)}


def say(answer):
    print(json.dumps(answer), flush=True)


def serve(asks, answers, ready):
    """`asks` are callables that answer one request and return {output: array}, each with a write_inputs(); `load`
    keeps all of them busy, everything else asks the first."""
    say({"ready": True, **ready})
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "run":
            say({"ns": [timed(asks[0]) for _ in range(int(arguments[0]))]})
        elif command == "load":
            say(load(asks, float(arguments[0])))
        elif command == "answers":
            asks[0].write_inputs()
            for name, value in asks[0]().items():
                np.save(answers / seeded.file_name(name), value)
            say({"answers": True})
        else:
            raise SystemExit(f"'{line.strip()}' is no command: run N, load SECONDS N, answers")
