#!/usr/bin/env python3
"""start: from nothing to ready: `opsplit up` of light_resnet50, stages:4, against loading it in ONNX Runtime.

And an operator's restart, from its SIGKILL to `opsplit ps` saying that it is ready. scripts/bench.sh runs this with a
/tmp, a /dev/shm, a cache and processes of its own, so that nothing of an opsplitd that runs here is in the way.
"""

import argparse
import importlib.metadata
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import measure
import numpy as np
import serving
from measure import compare, seeded

SPLIT = "stages:4"
NAME = "start"
UP_TARGET = 1.5  # of the time that ONNX Runtime takes
RESTART_TARGET_MS = 150
CACHE = measure.WORK / "cache"  # scripts/bench.sh mounts it where opsplitd's is
# Only making the session counts, in a process that has all it needs; and all of it, from its start. What ONNX Runtime
# can keep on disk is its optimized graph: that is loaded from the second time on, where it is asked for.
LOAD = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from onnxruntime_contender import make_session
start = time.perf_counter()
session = make_session(sys.argv[2], int(sys.argv[3]), *map(pathlib.Path, sys.argv[4:]))
print((time.perf_counter() - start) * 1e3, flush=True)
"""


def run(*command):
    """What it prints, and the milliseconds that it took."""
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout, (time.perf_counter() - start) * 1e3


def opsplit(*arguments):
    return run(measure.BIN / "opsplit", *arguments)


def up(model):
    _, ms = opsplit("up", model.path, "--split", SPLIT, "--name", NAME)
    if not any(CACHE.iterdir()):
        raise SystemExit(f"{CACHE} is not opsplitd's cache: scripts/bench.sh start makes it so")
    check(model)
    return ms


def check(model):
    """The answer of what runs, against the reference."""
    answers = model.folder / "answers" / NAME
    shutil.rmtree(answers, ignore_errors=True)
    files = {name: model.folder / "inputs" / seeded.file_name(name) for name in model.inputs}
    inputs = [word for name, file in files.items() for word in ("--input", f"{name}={file}")]
    opsplit("infer", NAME, *inputs, "--output-dir", answers)
    for tensor, agrees, text in compare.compare(model.folder / "expected", answers, measure.RTOL):
        if not agrees:
            raise SystemExit(f"{model.name}: {tensor} is wrong: {text}")


def up_cold(model):
    for file in CACHE.iterdir():
        file.unlink()
    return up(model)


def up_beside(model):
    """With an opsplitd and its broker that run already, for another deployment."""
    opsplit("up", measure.ROOT / "examples" / "digits" / "digits.onnx", "--name", "beside")
    return up(model)


def operators():
    said = json.loads(opsplit("ps", "--json")[0])
    return next(one for one in said["deployments"] if one["name"] == NAME)["instances"]


def restart(model, order):
    up(model)
    victim = order.choice(operators())
    start = time.perf_counter()
    os.kill(victim["pid"], signal.SIGKILL)
    while True:
        now = next(one for one in operators() if one["operator"] == victim["operator"])
        if now["state"] == "ready" and now["pid"] != victim["pid"]:
            break
    ms = (time.perf_counter() - start) * 1e3
    check(model)
    return ms


def load_onnxruntime(model, *optimized):
    said, whole = run(sys.executable, "-B", "-c", LOAD, measure.ROOT / "bench", model.path, os.cpu_count(), *optimized)
    return float(said), whole


def take_turns(model, rounds):
    """Milliseconds of each, round by round; the first round only warms the page cache, and the cache of opsplit."""
    order = random.Random(measure.SEED)
    starts = {"up, cold": up_cold, "up": up, "up, opsplitd runs": up_beside, "restart": lambda one: restart(one, order)}
    loads = {"onnxruntime": [], "onnxruntime, graph kept on disk": [model.folder / "optimized.onnx"]}
    times = {name: [] for name in (*starts, *loads, "onnxruntime, whole process")}
    for _ in range(rounds + 1):
        for name in order.sample([*starts, *loads], len(starts) + len(loads)):
            if name in starts:
                times[name].append(starts[name](model))
                opsplit("down")
                continue
            load, whole = load_onnxruntime(model, *loads[name])
            times[name].append(load)
            if name == "onnxruntime":
                times["onnxruntime, whole process"].append(whole)
    return {name: every[1:] for name, every in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="starts of each (default: 15)")
    options = parser.parse_args()
    serving.end_with_parent()
    [model] = measure.models(["resnet50"])
    model.make_reference()
    times = take_turns(model, options.rounds)
    rows = []
    for name, every in times.items():
        row = {"run": name, "p50_ms": round(float(np.median(every)), 2), "worst_ms": round(max(every), 2)}
        row |= {"repetitions": len(every)}
        if name == "restart":
            row |= {"target_ms": RESTART_TARGET_MS}
        elif name.startswith("up"):
            row |= {"versus": "onnxruntime", **measure.ratio(every, times["onnxruntime"])}
            row |= {"target": UP_TARGET} if name == "up" else {}
        print(f"{name:28} {row['p50_ms']:8.1f} ms, at worst {row['worst_ms']:8.1f} ms", end="")
        print(
            f"  ratio {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})" if "ratio" in row else ""
        )
        rows.append(row)
    version, _ = opsplit("--version")
    versions = {"opsplit": version.strip(), "onnxruntime": importlib.metadata.version("onnxruntime")}
    measure.write("start", sys.argv[1:], {"versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
