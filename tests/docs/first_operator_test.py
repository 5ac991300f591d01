#!/usr/bin/env python3
"""Follows docs/first-operator.md, or docs/first-cuda-operator.md, word for word: writes the files that it shows, runs its
commands, in their order. Commands in blocks `sh gpu` take a GPU: without one, they are left out.

usage: first_operator_test.py BIN_DIR [--cuda]

Exit code 77, skipped: BIN_DIR is not that of preset release, which the commands name; --cuda: it was built without CUDA.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCURACY = "99.7 %"


def script_of(guide, has_gpu):
    """The guide's blocks as one script of bash; and the files that it shows, by name."""
    steps, files = [], {}
    for kind, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            if name != "gpu" or has_gpu:
                steps.append(text)
        elif name:
            files[name] = text
            steps.append(f"cat >{name} <<'END_OF_{name}'\n{text}END_OF_{name}\n")
    return "".join(steps), files


def check_files(guide, files, example):
    """The guide shows all files of the example as they are, and no others."""
    for path in sorted(path for path in example.iterdir() if path.is_file()):  # no build folder of whoever tried it
        if f"\n{path.read_text()}```\n" not in guide:
            sys.exit(f"the guide does not show {path.relative_to(ROOT)} as it is")
    for name in files:
        if not (example / name).exists():
            sys.exit(f"the guide shows {name}, which {example.relative_to(ROOT)} does not have")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, metavar="BIN_DIR")
    parser.add_argument("--cuda", action="store_true", help="docs/first-cuda-operator.md")
    arguments = parser.parse_args()
    programs = arguments.programs.resolve()
    guide = (ROOT / "docs" / ("first-cuda-operator.md" if arguments.cuda else "first-operator.md")).read_text()
    example = ROOT / "examples" / ("custom-cuda-kernel" if arguments.cuda else "custom-kernel")
    has_gpu = pathlib.Path("/proc/driver/nvidia/gpus").exists()
    script, files = script_of(guide, has_gpu)
    check_files(guide, files, example)
    if programs != ROOT / "build" / "release" / "bin":
        print(f"skipped: {programs} is not that of preset release")
        return 77
    if arguments.cuda and not (programs / "opsplit-operator-cuda").exists():
        print("skipped: opsplit was built without CUDA, or without cuDNN")
        return 77
    with tempfile.TemporaryDirectory() as home:
        if " &\n" in script:
            script += "wait $!\n"  # the program that was attached has ended, and well
        command = ["bash", "-euxo", "pipefail", "-c", script]
        environment = {**os.environ, "HOME": home}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=False)
        output = done.stdout.decode()
        print(output)
        subprocess.run([programs / "opsplit", "down"], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the guide's commands end with exit code {done.returncode}")
    if arguments.cuda and not has_gpu:
        print("left out: what takes a GPU")
    elif ACCURACY not in output:
        sys.exit(f"the digits are not classified with {ACCURACY}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
