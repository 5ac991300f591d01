#!/usr/bin/env python3
"""models: opsplit's `fused` against ONNX Runtime and PyTorch, on 1 and 2 threads.

All of it is kept in bench/results/models.json; a part is only shown.
"""

import argparse
import contextlib
import sys

import measure
import numpy as np
import serving

TARGETS = {"onnxruntime": 1.0, "pytorch": 0.9}  # of each ratio


def contenders_of(model, threads, entered):
    """Those that can run the model, by name; and the reasons of those that can't."""
    commands = {
        "opsplit": measure.opsplit(model, "--split", "fused"),
        "onnxruntime": measure.onnxruntime(model),
        "pytorch": measure.pytorch(model),
    }
    running, reasons = {}, {}
    for name, command in commands.items():
        try:
            running[name] = entered(measure.Contender(name, command, model, measure.cpus(threads)))
        except measure.Failed as failure:
            reasons[name] = str(failure)
    return running, reasons


def measure_one(model, threads, rounds, versions):
    with contextlib.ExitStack() as stack:
        running, reasons = contenders_of(model, threads, stack.enter_context)
        errors = {name: one.check() for name, one in running.items()}
        turns = measure.take_turns(list(running.values()), rounds) if "opsplit" in running else {}
        for one in running.values():
            versions.update(one.ready["versions"])
        variants = {name: one.ready.get("variant", "fused") for name, one in running.items()}
    for rival, target in TARGETS.items():
        row = {"model": model.name, "threads": threads, "rival": rival, "target": target}
        if missing := reasons.get("opsplit") or reasons.get(rival):
            yield {**row, "reason": missing}
            continue
        yield {
            **row,
            **measure.latency_ratio(turns["opsplit"], turns[rival]),
            **measure.latency(turns["opsplit"]),
            **{f"rival_{key}": value for key, value in measure.latency(turns[rival]).items()},
            "worst_error": errors["opsplit"],
            "rival_worst_error": errors[rival],
            "rival_variant": variants[rival],
        }


def show(row):
    what = f"{row['model']:14} {row['threads']} x {row['rival']:12}"
    if "reason" in row:
        print(f"{what} - {row['reason']}", flush=True)
        return
    print(
        f"{what} {row['p50_us'] / 1e3:8.3f} / {row['rival_p50_us'] / 1e3:8.3f} ms  p99 {row['p99_us'] / 1e3:8.3f} / "
        f"{row['rival_p99_us'] / 1e3:8.3f}  ratio {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}"
        f"; of medians {row['ratio_of_medians']:.3f})  error {row['worst_error']:.0e}  {row['rival_variant']}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", metavar="A,B", help="some of them only")
    parser.add_argument("--threads", metavar="1,2", default="1,2")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contender (default: 12)")
    options = parser.parse_args()
    serving.end_with_parent()
    rows, versions = [], {}
    for model in measure.models(options.models and options.models.split(",")):
        model.make_reference()
        for threads in map(int, options.threads.split(",")):
            for row in measure_one(model, threads, options.rounds, versions):
                show(row)
                rows.append(row)
    for threads in sorted({row["threads"] for row in rows}):
        for rival in TARGETS:
            same = [row for row in rows if (row["threads"], row["rival"]) == (threads, rival)]
            ratios = [row["ratio"] for row in same if "ratio" in row]
            if ratios:
                mean = np.exp(np.mean(np.log(ratios)))
                print(f"geometric mean, {threads} x {rival}: {mean:.3f} of {len(ratios)} models")
    if options.models or options.threads != "1,2":
        print("a part only: not kept")
    else:
        measure.write("models", sys.argv[1:], {"versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
