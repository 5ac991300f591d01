#!/usr/bin/env python3
"""Runs a benchmark that is a program of its own (hop, overhead, transports) and keeps its result.

What it measured comes from its --summary; the machine, date and commit are added here. With any option of the program
itself it is a part only, and not kept.
"""

import json
import subprocess
import sys

import measure
import serving


def main():
    name, *options = sys.argv[1:]
    serving.end_with_parent()
    summary = measure.WORK / f"{name}.json"
    measure.WORK.mkdir(parents=True, exist_ok=True)
    command = [measure.BIN / name, "--summary", summary, *options]
    if subprocess.run(command, check=False, preexec_fn=serving.end_with_parent).returncode != 0:
        raise SystemExit(f"{name} failed (see above)")
    if options:
        print("a part only: not kept")
    else:
        measure.write(name, [], json.loads(summary.read_text()))


if __name__ == "__main__":
    main()
