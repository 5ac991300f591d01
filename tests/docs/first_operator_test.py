#!/usr/bin/env python3
"""Follows docs/first-operator.md word for word: writes the files that it shows, runs its commands, in their order.

usage: first_operator_test.py BIN_DIR

Exit code 77, skipped: BIN_DIR is not that of preset release, which the commands name.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "first-operator.md"
EXAMPLE = ROOT / "examples" / "custom-kernel"
ACCURACY = "99.7 %"


def script_of(guide):
    """The guide's blocks as one script of bash; and the files that it shows, by name."""
    steps, files = [], {}
    for kind, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            steps.append(text)
        elif name:
            files[name] = text
            steps.append(f"cat >{name} <<'END_OF_{name}'\n{text}END_OF_{name}\n")
    return "".join(steps), files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, metavar="BIN_DIR")
    programs = parser.parse_args().programs.resolve()
    if programs != ROOT / "build" / "release" / "bin":
        print(f"skipped: {programs} is not that of preset release")
        return 77
    script, files = script_of(GUIDE.read_text())
    for name, text in files.items():
        if text != (EXAMPLE / name).read_text():
            sys.exit(f"{GUIDE.name} shows another {name} than {EXAMPLE.relative_to(ROOT)} has")
    missing = {path.name for path in EXAMPLE.iterdir()} - files.keys()
    if missing:
        sys.exit(f"{GUIDE.name} does not show {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as home:
        # The last command of all: the program that was attached has ended, and well.
        command = ["bash", "-euxo", "pipefail", "-c", script + "wait $!\n"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "HOME": home}, stdout=subprocess.PIPE, check=False)
        output = done.stdout.decode()
        print(output)
        subprocess.run([programs / "opsplit", "down"], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the guide's commands end with exit code {done.returncode}")
    if ACCURACY not in output:
        sys.exit(f"the digits are not classified with {ACCURACY}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
