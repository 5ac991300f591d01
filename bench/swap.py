#!/usr/bin/env python3
"""swap: what it costs the requests of a deployment that one of its operators is swapped again and again.

The digits model by type, four clients that `opsplit chaos` starts and that compare every answer; no faults. In turns, Relu
is left alone, or swapped back and forth: by a program made with the SDK, and by opsplit's own kernels again.
scripts/bench.sh runs this with a /tmp, a /dev/shm, a cache and processes of its own.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import measure
import serving

DIGITS = measure.ROOT / "examples" / "digits" / "digits.onnx"
TARGET = 2  # times the p99 without


def opsplit(*arguments):
    done = subprocess.run([measure.BIN / "opsplit", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"opsplit {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


def relu():
    deployment = json.loads(opsplit("ps", "--json"))["deployments"][0]
    return [instance for instance in deployment["instances"] if instance["operator"] == "relu"]


def swap_back_and_forth():
    """Two swaps."""
    program = [measure.BIN / "opsplit", "attach", "digits/relu", "--", measure.BIN / "custom-operator", "relu"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as attached:
        # It says so when it serves. Asking `opsplit ps` again and again would take more CPU than the swap.
        if not attached.stdout.readline():
            raise SystemExit(f"opsplit attach ended with exit code {attached.wait()}")
        opsplit("swap", "digits/relu", "--backend", "native")


@contextlib.contextmanager
def load(folder):
    """Clients as long as the block lasts; yields where their verdict will be."""
    verdict = {}
    before = relu()[0]["tasks_done"]
    file = folder / "verdict.json"
    command = [measure.BIN / "opsplit", "chaos", "digits", "--for", "10min", "--every", "200h", "--json", file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as chaos:
        while relu()[0]["tasks_done"] < before + 1000 and chaos.poll() is None:
            time.sleep(0.01)
        yield verdict
        chaos.terminate()
        if chaos.wait() != 0:
            raise SystemExit(chaos.stdout.read().decode())  # what it found wrong
    verdict.update(json.loads(file.read_text()))


def row_of(run, verdicts):
    """Latencies are medians over the turns."""
    row = {"run": run}
    for count in ("requests", "lost", "doubled", "wrong", "refused", "epochs_lost"):
        row[count] = sum(verdict[count] for verdict in verdicts)
    for quantile in ("p50_ms", "p99_ms", "max_ms"):
        row[quantile] = round(statistics.median(one["latency"]["before"][quantile] for one in verdicts), 2)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100, help="in all (default: 100)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind (default: 5)")
    options = parser.parse_args()
    serving.end_with_parent()
    pairs = options.swaps // 2 // options.rounds
    turns = {"swapped": [], "alone": []}
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
                turns["swapped"].append(swapped)
                turns["alone"].append(alone)
        finally:
            opsplit("down")
    rows = [row_of(run, verdicts) for run, verdicts in turns.items()]
    p99 = {run: [one["latency"]["before"]["p99_ms"] for one in verdicts] for run, verdicts in turns.items()}
    rows[0] |= {"swaps": 2 * pairs * options.rounds, **measure.ratio(p99["swapped"], p99["alone"]), "target": TARGET}
    for row in rows:
        print(json.dumps(row))
    version = opsplit("--version").strip()
    measure.write("swap", sys.argv[1:], {"versions": {"opsplit": version}, "rows": rows})


if __name__ == "__main__":
    main()
