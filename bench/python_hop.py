#!/usr/bin/env python3
"""python_hop: a hop into an operator in Python beside one into an operator in C++, in one run.

A chain of Relu of 16 floats goes by turns through two operators of a deployment, each on a core of its own where there are
two. Both are in Python, or both in C++; a request is timed by its client, and a hop is that by the number of nodes, with what
the operator does. All take turns; compare their ratios. `undisturbed` is the fiftieth of the requests that is fastest: what it
takes where nobody else wants the cores.

scripts/bench.sh runs this with a /tmp, a /dev/shm, a cache and processes of its own.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

import measure
import numpy as np
import opsplit
import serving
from onnx import TensorProto, helper, save

NODES = 200
NAMES = ("ping", "pong")
TARGETS = {"Python, empty": 12}
LIMIT_S = 60
# Name -> program, or function of python_operators.py.
OPERATORS = {
    "C++, empty": ("empty-operator", None),
    "Python, empty": (None, "nothing"),
    "C++, Relu": ("opsplit-operator", None),
    "NumPy, Relu": (None, "relu"),
}
BASE = {"Python, empty": "C++, empty", "NumPy, Relu": "C++, Relu"}


def write_model(path):
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], f"n{i}") for i in range(NODES)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [1, 16]) for i in (0, NODES)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_deployment(path, model):
    lines = [f"model: {model}", "name: chain", "operators:"]
    cpus = sorted(os.sched_getaffinity(0))
    for turn, name in enumerate(NAMES):
        nodes = ", ".join(f"n{i}" for i in range(turn, NODES, 2))
        lines.append(f'  {name}: {{backend: attach, cores: "{cpus[turn % len(cpus)]}", nodes: [{nodes}]}}')
    path.write_text("\n".join(lines) + "\n")


def hops(deployment, operator, requests):
    """Microseconds per hop, of each request."""
    socket = opsplit._core.default_socket()
    program, function = operator
    command = (
        [measure.BIN / program]
        if program
        else [sys.executable, "-B", measure.ROOT / "tests/system/python_operators.py", function]
    )
    up = subprocess.Popen(
        [measure.BIN / "opsplit", "up", deployment], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    options = ["--socket", socket, "--deployment", "chain", "--wait", str(LIMIT_S)]
    started = [subprocess.Popen([*command, *options, "--operator", name]) for name in NAMES]
    try:
        while up.poll() is None:
            if any(process.poll() is not None for process in started):
                up.kill()
                raise SystemExit(f"an operator has ended before it was ready: {command}")
            time.sleep(0.01)
        if up.returncode != 0:
            raise SystemExit(up.stderr.read())
        client = opsplit.connect("chain")
        ones = np.ones((1, 16), np.float32)
        times = []
        for index in range(requests + requests // 10):
            with client.request() as request:
                request.inputs["t0"][...] = ones
                begun = time.perf_counter()
                request.submit()
                request.wait(LIMIT_S)
                if index >= requests // 10:  # the first ones warm up
                    times.append((time.perf_counter() - begun) * 1e6 / NODES)
        del client
    finally:
        subprocess.run([measure.BIN / "opsplit", "down"], check=False, capture_output=True)
        for process in started:
            process.wait(LIMIT_S)
    return times


def row_of(name, turns):
    """Of all turns; the ratios are those of the turns' medians."""

    def undisturbed(all_turns):
        return statistics.quantiles(sum(all_turns, []), n=50)[0]

    row = {"name": name, "hop_us": round(statistics.median(sum(turns[name], [])), 3)}
    row |= {"undisturbed_us": round(undisturbed(turns[name]), 3)}
    if name in BASE:
        base = turns[BASE[name]]
        medians = [[statistics.median(turn) for turn in own] for own in (turns[name], base)]
        row |= {"versus": BASE[name], **measure.ratio(*medians)}
        row |= {"undisturbed_ratio": round(undisturbed(turns[name]) / undisturbed(base), 3)}
    if name in TARGETS:
        row |= {"target": TARGETS[name]}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--requests", type=int, default=300, help="of a turn (default: 300)")
    options = parser.parse_args()
    serving.end_with_parent()
    with tempfile.TemporaryDirectory() as folder:
        model, deployment = pathlib.Path(folder) / "chain.onnx", pathlib.Path(folder) / "chain.yaml"
        write_model(model)
        write_deployment(deployment, model)
        turns = {name: [] for name in OPERATORS}
        for _ in range(options.rounds):
            for name in random.sample(list(OPERATORS), len(OPERATORS)):
                turns[name].append(hops(deployment, OPERATORS[name], options.requests))
    rows = [row_of(name, turns) for name in OPERATORS]
    for row in rows:
        print(json.dumps(row))
    versions = {"numpy": importlib.metadata.version("numpy"), "Python": platform.python_version()}
    versions |= {"opsplit": opsplit.__version__}
    measure.write("python_hop", sys.argv[1:], {"versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
