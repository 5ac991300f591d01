#!/usr/bin/env python3
"""python_hop: a hop into an operator in Python beside one into an operator in C++, in one run.

A chain of Relu of 16 floats goes by turns through two operators of a deployment, each on a core of its own where there are
two. Both are in Python, or both in C++; a request is timed by its client, and a hop is that by the number of nodes, with what
the operator does. All take turns; compare their ratios. `undisturbed` is the fiftieth of the requests that is fastest: what it
takes where nobody else wants the cores.

usage: python_hop.py [--build build/release] [--rounds N] [--requests N]     with the Python of scripts/python_env.sh
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NODES = 200
NAMES = ("ping", "pong")
TARGET = 12
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
    from onnx import TensorProto, helper, save

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


def measure(programs, deployment, operator, requests):
    """Microseconds per hop, of each request."""
    import numpy as np

    import opsplit

    socket = opsplit._core.default_socket()
    program, function = operator
    command = (
        [programs / program] if program else [sys.executable, "-B", ROOT / "tests/system/python_operators.py", function]
    )
    up = subprocess.Popen(
        [programs / "opsplit", "up", deployment], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
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
        subprocess.run([programs / "opsplit", "down"], check=False, capture_output=True)
        for process in started:
            process.wait(LIMIT_S)
    return times


def row_of(turns, base):
    """Of all turns; the ratios of medians are by turn."""

    def undisturbed(all_turns):
        return statistics.quantiles(sum(all_turns, []), n=50)[0]

    ratios = [statistics.median(own) / statistics.median(other) for own, other in zip(turns, base)]
    return {
        "hop_us": statistics.median(sum(turns, [])),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "undisturbed_us": undisturbed(turns),
        "undisturbed_ratio": undisturbed(turns) / undisturbed(base),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--requests", type=int, default=300, help="of a turn")
    parser.add_argument("--summary", type=pathlib.Path, help="a file for the figures as JSON")
    parser.add_argument("--private", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    build = options.build.absolute()
    if not options.private:  # with a /tmp and a /dev/shm of its own
        environment = {**os.environ, "PYTHONPATH": str(build / "python")}
        tests = str(build / "bin/system_tests")
        os.execve(tests, [tests, "--private", sys.executable, "-B", *sys.argv, "--private"], environment)
    with tempfile.TemporaryDirectory() as folder:
        model, deployment = pathlib.Path(folder) / "chain.onnx", pathlib.Path(folder) / "chain.yaml"
        write_model(model)
        write_deployment(deployment, model)
        turns = {name: [] for name in OPERATORS}
        for _ in range(options.rounds):
            for name in random.sample(list(OPERATORS), len(OPERATORS)):
                turns[name].append(measure(build / "bin", deployment, OPERATORS[name], options.requests))
    rows = [{"name": name, **row_of(turns[name], turns[BASE.get(name, name)])} for name in OPERATORS]
    print(f"{'us per hop':14}{'median':>8} {'/ C++':16}{'undisturbed':>12} / C++")
    for row in rows:
        ratio = f"{row['ratio']:.1f} ({row['ratio_low']:.1f} to {row['ratio_high']:.1f})"
        print(
            f"{row['name']:14}{row['hop_us']:8.2f} {ratio:16}{row['undisturbed_us']:12.2f} {row['undisturbed_ratio']:.1f}"
        )
    if options.summary:
        options.summary.write_text(json.dumps({"target": TARGET, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
