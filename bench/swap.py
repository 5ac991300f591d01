#!/usr/bin/env python3
"""swap: what it costs the requests of a deployment that one of its operators is swapped again and again.

The digits model by type, four clients that `opsplit chaos` starts and that compare every answer; no faults. In turns, Relu
is left alone, or swapped back and forth: by a program made with the SDK, and by opsplit's own kernels again.

usage: build/release/bin/system_tests --private $PWD/build/venv/bin/python -B bench/swap.py [--swaps N] [--rounds N]
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "build" / "release" / "bin"
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"


def opsplit(*arguments):
    done = subprocess.run([BIN / "opsplit", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"opsplit {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


def relu():
    deployment = json.loads(opsplit("ps", "--json"))["deployments"][0]
    return [instance for instance in deployment["instances"] if instance["operator"] == "relu"]


def swap_back_and_forth():
    """Two swaps."""
    program = [BIN / "opsplit", "attach", "digits/relu", "--", BIN / "custom-operator", "relu"]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as attached:
        while [(one["backend"], one["state"]) for one in relu()] != [("attach", "ready")]:
            if attached.poll() is not None:
                raise SystemExit(f"opsplit attach ended with exit code {attached.returncode}")
            time.sleep(0.01)
        opsplit("swap", "digits/relu", "--backend", "native")


@contextlib.contextmanager
def load(folder):
    """Clients as long as the block lasts; yields where their verdict will be."""
    verdict = {}
    before = relu()[0]["tasks_done"]
    file = folder / "verdict.json"
    command = [BIN / "opsplit", "chaos", "digits", "--for", "10min", "--every", "200h", "--json", file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as chaos:
        while relu()[0]["tasks_done"] < before + 1000 and chaos.poll() is None:
            time.sleep(0.01)
        yield verdict
        chaos.terminate()
        if chaos.wait() != 0:
            raise SystemExit(chaos.stdout.read().decode())  # what it found wrong
    verdict.update(json.loads(file.read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100, help="in all (default: 100)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind (default: 5)")
    options = parser.parse_args()
    pairs = options.swaps // 2 // options.rounds
    figures = {"alone": [], "swapped": []}
    counts = dict.fromkeys(("requests", "lost", "doubled", "wrong", "refused", "epochs_lost"), 0)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        opsplit("up", DIGITS, "--split", "by-type", "--name", "digits")
        try:
            for _ in range(options.rounds):
                with load(folder) as swapped:
                    begin = time.monotonic()
                    for _ in range(pairs):
                        swap_back_and_forth()
                    seconds = time.monotonic() - begin
                with load(folder) as alone:
                    time.sleep(seconds)
                for kind, verdict in (("swapped", swapped), ("alone", alone)):
                    figures[kind].append(verdict["latency"]["before"])
                    counts = {key: count + verdict[key] for key, count in counts.items()}
        finally:
            opsplit("down")
    ratios = [ours["p99_ms"] / theirs["p99_ms"] for ours, theirs in zip(figures["swapped"], figures["alone"])]
    print(f"{2 * pairs * options.rounds} swaps; {', '.join(f'{key} {count}' for key, count in counts.items())}")
    for kind, turns in figures.items():
        medians = {key: statistics.median(turn[key] for turn in turns) for key in ("p50_ms", "p99_ms", "max_ms")}
        print(f"{kind:8}", ", ".join(f"{key} {value:.2f}" for key, value in medians.items()))
    print(f"p99 swapped / alone: median of turns {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
