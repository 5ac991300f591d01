#!/usr/bin/env python3
"""chaos: what a death, or a process that hangs, costs: recovery, and the latency of requests that were under way.

`opsplit chaos` strikes and measures; it compares every answer. scripts/bench.sh runs this with a /tmp, a /dev/shm, a
cache and processes of its own, so that nothing of an opsplitd that runs here is in the way.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import measure
import serving

OPSPLIT = measure.BIN / "opsplit"
BY_TYPE = ["conv", "relu", "maxpool", "gemm", "softmax"]  # of the digits model
NO_FAULTS = ["--every", "200h"]
RECOVERY_MS, STANDBY_MS, EPOCH_MS, ADOPTED_MS = 300, 20, 2000, 1000  # targets, of p99; of all, the last two
UNDER_WAY, SLOWEST, BESIDE = 1.5, 2, 1.1  # targets: times the p99 before


def deployment(folder, name, model, split, operators=()):
    # A request at a time for each of four clients: else most of a latency is waiting for a CPU.
    text = f"name: {name}\nmodel: {model}\nsplit: {split}\ndepth: 4\n"
    if operators:
        text += "operators:\n" + "".join(f"  {op}: {{{options}}}\n" for op, options in operators)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def opsplit(*arguments):
    done = subprocess.run([OPSPLIT, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"opsplit {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")


class Chaos:
    """`opsplit chaos` on a deployment that runs."""

    def __init__(self, folder, name, seconds, options):
        self.file = folder / f"{name}.json"
        command = [OPSPLIT, "chaos", name, "--for", f"{seconds}s", "--json", self.file, *options]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def verdict(self):
        said = self.process.communicate()[0].decode()
        if self.process.returncode != 0:
            raise SystemExit(said)
        return json.loads(self.file.read_text())


def row_of(name, verdict):
    latency = verdict["latency"]
    row = {"run": name, "faults": sum(one["victim"] != "" for one in verdict["faults"])}
    row |= {kind: verdict[kind] for kind in ("requests", "refused", "lost", "doubled", "wrong")}
    row |= {"silence_ms": round(verdict["longest_silence_ms"], 1)}
    row |= {f"before_{q}": round(latency["before"][q], 2) for q in ("p99_ms", "max_ms")}
    if verdict["recovery"]:
        [recovery] = verdict["recovery"].values()
        row |= {f"recovery_{q}": round(recovery[q], 1) for q in ("p50_ms", "p99_ms", "max_ms")}
    if latency["under_way"]:
        [under_way] = latency["under_way"].values()
        row |= {"under_way_p99_ms": round(under_way["p99_ms"], 2), "under_way_max_ms": round(under_way["max_ms"], 2)}
    if "adopted" in verdict:
        row |= {"adopted_max_ms": round(verdict["adopted"]["max_ms"], 1)}
    return row


def strike(folder, seconds):
    digits = measure.ROOT / "examples" / "digits" / "digits.onnx"
    squeezenet = measure.ROOT / "build" / "release" / "light" / "light_squeezenet" / "model.onnx"
    by_type = deployment(folder, "digits", digits, "by-type")
    stages = deployment(folder, "squeezenet", squeezenet, "stages:4")
    standby = deployment(folder, "standby", digits, "by-type", [(op, "standby: 1") for op in BY_TYPE])
    operators = ["--kill", "operators", "--every", "700ms"]
    broker = ["--kill", "broker", "--every", "4s"]
    recovery = ("recovery_p99_ms", RECOVERY_MS)
    runs = [
        ("nothing, digits", by_type, NO_FAULTS, []),
        ("operators killed, digits", by_type, operators, [recovery]),
        ("operators killed, each with a standby, digits", standby, operators, [("recovery_p99_ms", STANDBY_MS)]),
        ("operators killed or stopped, digits", by_type, [*operators, "--hang"], []),
        ("nothing, squeezenet", stages, NO_FAULTS, []),
        ("operators killed, squeezenet", stages, operators, [recovery]),
        ("broker killed, digits", by_type, broker, [("recovery_max_ms", EPOCH_MS), ("under_way_p99", UNDER_WAY)]),
        ("broker killed or stopped, digits", by_type, [*broker, "--hang"], [("recovery_max_ms", EPOCH_MS)]),
        (
            "opsplitd killed, digits",
            by_type,
            ["--kill", "daemon", "--every", "4s"],
            [("adopted_max_ms", ADOPTED_MS), ("under_way_max", SLOWEST)],
        ),
    ]
    for name, file, options, targets in runs:
        opsplit("up", file)
        row = row_of(name, Chaos(folder, file.stem, seconds, options).verdict())
        opsplit("down")
        row["targets"] = {}
        for figure, target in targets:
            if figure.startswith("under_way"):
                row[figure] = round(row[f"{figure}_ms"] / row["before_p99_ms"], 2)
            row["targets"][figure] = target
        print(json.dumps(row), flush=True)
        yield row


def beside(folder, seconds, rounds):
    """Requests to a deployment, while the operators of another one are killed, and while they are not, by turns."""
    digits = measure.ROOT / "examples" / "digits" / "digits.onnx"
    for name in ("victim", "beside"):
        opsplit("up", deployment(folder, name, digits, "by-type"))
    p99 = {"struck": [], "not": []}
    for _ in range(rounds):
        for case, options in (("not", NO_FAULTS), ("struck", ["--kill", "operators", "--every", "1s"])):
            # One client each: else the two deployments wait for each other's CPU, whatever is struck.
            neighbour = Chaos(folder, "beside", seconds, [*NO_FAULTS, "--clients", 1])
            Chaos(folder, "victim", seconds, [*options, "--clients", 1]).verdict()
            p99[case].append(neighbour.verdict()["latency"]["before"]["p99_ms"])
    opsplit("down")
    row = {"run": "another deployment's operators killed, digits", **measure.ratio(p99["struck"], p99["not"])}
    row |= {"targets": {"ratio": BESIDE}}
    print(json.dumps(row), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of each run (default: 60)")
    options = parser.parse_args()
    serving.end_with_parent()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = list(strike(folder, options.seconds))
        rows.append(beside(folder, options.seconds // 3, 4))
    version = subprocess.run([OPSPLIT, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    measure.write("chaos", sys.argv[1:], {"versions": {"opsplit": version}, "rows": rows})


if __name__ == "__main__":
    main()
