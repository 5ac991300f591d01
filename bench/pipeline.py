#!/usr/bin/env python3
"""pipeline: requests per second on two cores, which stages share out among them, many requests in flight.

Against ONNX Runtime at its best: one session on two threads, or two sessions on one each, in one process or in two.
"""

import argparse
import contextlib
import sys

import measure
import numpy as np
import serving

CORES = 2
STAGES = (2, 3, 4)
IN_FLIGHT = 8
TURN_SECONDS = 1.5
TARGET = 1.1
MODELS = ("resnet50", "squeezenet")


class Several:
    """Contenders that work at the same time."""

    def __init__(self, contenders):
        self.contenders = contenders

    def load(self, seconds):
        for one in self.contenders:
            one.say(f"load {seconds} {IN_FLIGHT}")
        return sum(one.listen()["per_second"] for one in self.contenders)

    def check(self):
        return max(one.check() for one in self.contenders)


def deployment(model, split):
    """The file of a deployment whose operators work at the same time."""
    path = model.folder / f"{split.replace(':', '-')}.yaml"
    path.write_text(f"model: {model.path}\nsplit: {split}\nobjective: throughput\ndepth: {IN_FLIGHT}\n")
    return path


def start(model, enter):
    """{name: Several}: ours, then ONNX Runtime's."""
    both = measure.cpus(CORES)

    def one(name, command, cpus=both):
        return enter(measure.Contender(name, command, model, cpus))

    ours, theirs = {}, {}
    for split in ("fused", *(f"stages:{count}" for count in STAGES)):
        command = [measure.BIN / "contender", deployment(model, split)]
        ours[split] = Several([one(split, command)])
    session = measure.onnxruntime(model)
    theirs["1 session x 2 threads"] = Several([one("1 session", session)])
    theirs["2 sessions x 1 thread"] = Several([one("2 sessions", [*session, "--sessions", "2"])])
    alone = [one(f"process {cpu}", session, [cpu]) for cpu in both]
    theirs["2 processes x 1 thread"] = Several(alone)
    return ours, theirs


def measure_one(model, rounds, versions):
    with contextlib.ExitStack() as stack:
        ours, theirs = start(model, stack.enter_context)
        running = ours | theirs
        errors = {name: several.check() for name, several in running.items()}
        versions.update(ours["fused"].contenders[0].ready["versions"])
        versions.update(next(iter(theirs.values())).contenders[0].ready["versions"])
        for several in running.values():
            several.load(3 * TURN_SECONDS)  # cores are divided anew once enough requests have shown what they cost
        rates = {name: [] for name in running}
        for name in measure.random_turns(list(running), rounds):
            rates[name].append(running[name].load(TURN_SECONDS))
    rivals = {name: float(np.median(rates[name])) for name in theirs}
    best = max(rivals, key=rivals.get)
    for name in running:
        row = {"model": model.name, "run": name, "runtime": "opsplit" if name in ours else "onnxruntime"}
        row |= {"requests_per_second": round(float(np.median(rates[name])), 2), "versus": best}
        row |= measure.ratio(rates[name], rates[best])
        row |= {"target": TARGET} if name in ours and name != "fused" else {}
        yield {**row, "worst_error": errors[name]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", metavar="A,B", default=",".join(MODELS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contender (default: 10)")
    options = parser.parse_args()
    serving.end_with_parent()
    rows, versions = [], {}
    for model in measure.models(options.models.split(",")):
        model.make_reference()
        for row in measure_one(model, options.rounds, versions):
            print(
                f"{row['model']:12} {row['run']:24} {row['requests_per_second']:8.1f}/s  ratio {row['ratio']:.3f} "
                f"({row['ratio_low']:.3f} to {row['ratio_high']:.3f}) of {row['versus']}  "
                f"error {row['worst_error']:.0e}",
                flush=True,
            )
            rows.append(row)
    if options.models == ",".join(MODELS):
        measure.write("pipeline", sys.argv[1:], {"versions": versions, "rows": rows})
    else:
        print("a part only: not kept")


if __name__ == "__main__":
    main()
