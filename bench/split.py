#!/usr/bin/env python3
"""split: what splitting costs: light_resnet50, one request at a time, all on the same two cores.

stages:4 against fused; by-type and per-node against the same unfused primitives run one after the other in one process.
"""

import argparse
import contextlib
import sys

import measure
import serving

THREADS = 2
RUNS = {  # what is run, and on what terms
    "fused": ("fused",),
    "stages:4": ("stages:4",),
    "by-type": ("by-type",),
    "per-node": ("per-node",),
    "fused in one process": ("fused", "--in-process"),
    "by-type in one process": ("by-type", "--in-process"),
    "per-node in one process": ("per-node", "--in-process"),
}
COMPARISONS = (
    ("stages:4", "fused", 1.02),
    ("by-type", "by-type in one process", 1.03),
    ("per-node", "per-node in one process", 1.03),
    ("fused", "fused in one process", None),
    ("by-type", "fused", None),
    ("per-node", "fused", None),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", metavar="NAME", default="resnet50", help="another model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each contender (default: 60)")
    options = parser.parse_args()
    serving.end_with_parent()
    [model] = measure.models([options.models])
    model.make_reference()
    versions, rows = {}, []
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(
                measure.Contender(name, measure.opsplit(model, "--split", *how), model, measure.cpus(THREADS))
            )
            for name, how in RUNS.items()
        }
        errors = {name: one.check() for name, one in running.items()}
        turns = measure.take_turns(list(running.values()), options.rounds)
        for one in running.values():
            versions.update(one.ready["versions"])
    for run, versus, target in COMPARISONS:
        row = {"model": model.name, "threads": THREADS, "run": run, "versus": versus}
        row |= {"target": target} if target else {}
        row |= {key: running[run].ready[key] for key in ("operators", "tasks")}
        row |= measure.latency_ratio(turns[run], turns[versus]) | measure.latency(turns[run])
        row |= {f"versus_{key}": value for key, value in measure.latency(turns[versus]).items()}
        rows.append({**row, "worst_error": errors[run]})
    for row in rows:
        print(
            f"{row['run']:10} / {row['versus']:24} {row['p50_us'] / 1e3:8.3f} / {row['versus_p50_us'] / 1e3:8.3f} ms  "
            f"ratio {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}; of medians "
            f"{row['ratio_of_medians']:.3f})  error {row['worst_error']:.0e}"
        )
    if options.models == "resnet50":
        measure.write("split", sys.argv[1:], {"versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
