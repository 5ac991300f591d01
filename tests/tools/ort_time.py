#!/usr/bin/env python3
"""ONNX Runtime's latency for one model on the CPU: the yardstick for our own times.

One request at a time, seeded inputs, warm-up first. Needs numpy, onnxruntime.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import seeded


def measure(model, threads, seconds, requests, shapes):
    import onnxruntime

    session = seeded.session(model, threads)
    feed = seeded.inputs_of(session, 1, shapes)

    def once():
        start = time.perf_counter()
        session.run(None, feed)
        return time.perf_counter() - start

    def repeat(limit, at_least, at_most):
        end, times = time.perf_counter() + limit, []
        while len(times) < at_least or (time.perf_counter() < end and len(times) < at_most):
            times.append(once())
        return np.array(times) * 1e3

    repeat(max(0.2, seconds / 5), 3, 1000)
    times = repeat(float("inf"), requests, requests) if requests else repeat(seconds, 10, 1_000_000)
    return {
        "model": str(model),
        "onnxruntime": onnxruntime.__version__,
        "threads": threads,
        "requests": len(times),
        "p50_ms": round(float(np.percentile(times, 50)), 4),
        "p99_ms": round(float(np.percentile(times, 99)), 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to measure (default: %(default)s)")
    parser.add_argument("--requests", type=int, metavar="N", help="measure so many requests instead")
    parser.add_argument("--shape", action="append", metavar="NAME=1,3,224,224", help="where the model leaves it open")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.model.is_file():
        parser.error(f"no file {options.model}")
    shapes = seeded.parse_shapes(options.shape)
    result = measure(options.model, options.threads, options.seconds, options.requests, shapes)
    if options.json:
        print(json.dumps(result))
    else:
        threads = f"{result['threads']} thread" + ("s" if result["threads"] != 1 else "")
        print(
            f"ONNX Runtime {result['onnxruntime']}, {threads}: p50 {result['p50_ms']:.3f} ms, "
            f"p99 {result['p99_ms']:.3f} ms ({result['requests']} requests)"
        )


if __name__ == "__main__":
    main()
