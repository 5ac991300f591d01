"""What the benchmarks of models share: contenders that take turns, answers that are checked, results kept as JSON.

A contender is a process that has loaded a model and obeys lines on its stdin (bench/opsplit_contender.cpp says which).
Contenders take turns in random order, each some requests at a time, so that a machine that gets slower or faster does
so for all of them. Before anything counts, each one's outputs are compared with ONNX Runtime's.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
BIN = ROOT / "build" / "release" / "bin"
sys.path.insert(0, str(ROOT / "tests" / "tools"))
import compare
import seeded

TURN_SECONDS = 0.075
MAX_REQUESTS = 2000  # in one turn
WARM_UP = 5  # a request that does not count for so many that do, before them
QUIET_SECONDS = 0.3  # to wait at most for threads of the last one, which spin for up to 0.1 s before they sleep
RTOL = 1e-3
SEED = 1


class Failed(SystemExit):
    """A contender ended: which, and its last words. Where nobody catches it, that is what a user sees."""


@dataclasses.dataclass
class Model:
    name: str
    path: pathlib.Path
    shapes: list = dataclasses.field(default_factory=list)  # INPUT=1,3,640,640, where the model leaves it open
    inputs: list = dataclasses.field(default_factory=list)  # their names, once there is a reference

    @property
    def folder(self):
        return WORK / self.name

    def make_reference(self):
        """Seeded inputs and ONNX Runtime's outputs, as .npy."""
        session = seeded.session(self.path, os.cpu_count() or 1)
        feed = seeded.inputs_of(session, SEED, seeded.parse_shapes(self.shapes))
        self.inputs = list(feed)
        outputs = [entry.name for entry in session.get_outputs()]
        for part, tensors in (("inputs", feed), ("expected", dict(zip(outputs, session.run(outputs, feed))))):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            (self.folder / part).mkdir(parents=True)
            for name, value in tensors.items():
                np.save(self.folder / part / seeded.file_name(name), value)


def models(names=None):
    """Those that are measured, or those of them that are named."""
    light = ROOT / "build" / "release" / "light"
    known = [Model(path.name.removeprefix("light_"), path / "model.onnx") for path in sorted(light.glob("light_*"))]
    known.append(Model("digits", ROOT / "examples" / "digits" / "digits.onnx"))
    known.append(Model("ppocr_det", WORK / "ch_PP-OCRv4_det_infer.onnx", ["x=1,3,640,640"]))
    unknown = set(names or ()) - {model.name for model in known}
    if unknown:
        raise SystemExit(f"no model {unknown.pop()}; there are: {', '.join(model.name for model in known)}")
    return [model for model in known if not names or model.name in names]


def cpus(count):
    """So many CPUs, each on a core of its own."""
    first_of_core = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        first_of_core.setdefault(siblings, cpu)
    if len(first_of_core) < count:
        raise SystemExit(f"{count} cores are needed, there are {len(first_of_core)}")
    return sorted(first_of_core.values())[-count:]


class Contender:
    """`command` on the CPUs given; ready once it is made. Ends with the `with` that it is used in, or its parent."""

    def __init__(self, name, command, model, on_cpus):
        self.name, self.model = name, model
        self.answers = model.folder / "answers" / name
        shutil.rmtree(self.answers, ignore_errors=True)
        self.answers.mkdir(parents=True)
        self.words = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*map(str, command), "--inputs", str(model.folder / "inputs"), "--answers", str(self.answers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, on_cpus),
        )
        self.ready = self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.words.close()

    def say(self, command):
        with contextlib.suppress(BrokenPipeError):  # listen() says why
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()

    def listen(self):
        answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        self.process.wait()
        self.words.seek(0)
        words = self.words.read().strip().splitlines() or ["it ended without a word"]
        raise Failed(f"{self.model.name}, {self.name}: {words[-1]}")

    def ask(self, command):
        self.say(command)
        return self.listen()

    def check(self):
        """The worst relative error of its outputs; a wrong one ends everything."""
        self.ask("answers")
        expected = self.model.folder / "expected"
        for tensor, agrees, text in compare.compare(expected, self.answers, RTOL):
            if not agrees:
                raise SystemExit(f"{self.model.name}, {self.name}: {tensor} is wrong: {text}")
        names = [path.name for path in expected.iterdir()]
        return max(compare.relative_error(np.load(expected / name), np.load(self.answers / name)) for name in names)


def opsplit(model, *options):
    shapes = [word for shape in model.shapes for word in ("--shape", shape)]
    return [BIN / "contender", model.path, *shapes, *options]


def onnxruntime(model, *options):
    return [sys.executable, "-B", ROOT / "bench" / "onnxruntime_contender.py", model.path, *options]


def pytorch(model):
    return [ROOT / "build" / "torch-venv" / "bin" / "python", "-B", ROOT / "bench" / "pytorch_contender.py", model.path]


def wait_for_quiet():
    """Until nothing runs on this machine but who asks."""
    end = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < end:
        [running] = re.findall(r"^procs_running (\d+)", pathlib.Path("/proc/stat").read_text(), re.MULTILINE)
        if int(running) <= 1:
            return
        time.sleep(0.002)


def random_turns(contenders, rounds):
    """Each once in every round, in another order each time, once the one before is asleep."""
    order = random.Random(SEED)
    for _ in range(rounds):
        for one in order.sample(contenders, len(contenders)):
            wait_for_quiet()
            yield one


def take_turns(contenders, rounds):
    """Latencies in ns: {name: [an array for each round]}."""
    counts = {}
    for one in contenders:
        first = one.ask("run 2")["ns"][-1]
        settled = np.median(one.ask(f"run {int(np.clip(0.3e9 / first, 2, MAX_REQUESTS))}")["ns"])
        counts[one.name] = int(np.clip(TURN_SECONDS * 1e9 / settled, 1, MAX_REQUESTS))
    latencies = {one.name: [] for one in contenders}
    for one in random_turns(contenders, rounds):
        warm_up = -(-counts[one.name] // WARM_UP)
        got = one.ask(f"run {warm_up + counts[one.name]}")["ns"]
        latencies[one.name].append(np.array(got[warm_up:]))
    return latencies


def ratio(ours, theirs):
    """Of two lists with a figure for each round: median and quartiles of the ratios within a round."""
    low, middle, high = np.percentile(np.array(ours) / np.array(theirs), (25, 50, 75))
    return {"ratio": round(middle, 4), "ratio_low": round(low, 4), "ratio_high": round(high, 4)}


def latency_ratio(ours, theirs):
    medians = [[np.median(turn) for turn in turns] for turns in (ours, theirs)]
    of_all = [np.median(np.concatenate(turns)) for turns in (ours, theirs)]
    return {**ratio(*medians), "ratio_of_medians": round(of_all[0] / of_all[1], 4)}


def latency(turns):
    every = np.concatenate(turns) / 1e3
    p50, p99 = np.percentile(every, (50, 99))
    return {"p50_us": round(p50, 2), "p99_us": round(p99, 2), "requests": len(every)}


def system_name():
    with contextlib.suppress(OSError, KeyError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system()


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "system": system_name(),
    }


def commit():
    git = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}"]
    found = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, check=False)
    return found.stdout.strip() + (" with changes" if changed.stdout else "")


def write(benchmark, options, measured):
    """What was measured, with where and when, into bench/results."""
    path = ROOT / "bench" / "results" / f"{benchmark}.json"
    result = {
        **measured,
        "benchmark": benchmark,
        "command": " ".join(["scripts/bench.sh", benchmark, *options]),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
    }
    path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(f"written: {path.relative_to(ROOT)}")
