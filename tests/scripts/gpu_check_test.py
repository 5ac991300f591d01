#!/usr/bin/env python3
"""scripts/gpu-check.sh as far as it goes without a GPU: what it packs starts with what it packed, a machine without a GPU
is skipped, and one whose GPU the tests do not find fails. What it did not pack, it does not overwrite.

usage: gpu_check_test.py BIN_DIR

Exit code 77, skipped: BIN_DIR is not that of preset release, which the script packs, or it was built without CUDA.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gpu-check.sh"


def run(*command, expected=0, **environment):
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode != expected:
        sys.exit(f"{command} ended with {done.returncode} instead of {expected}:\n{done.stdout}")
    return done.stdout


def check_refusals():
    with tempfile.TemporaryDirectory() as folder:
        mine = pathlib.Path(folder) / "mine"
        mine.write_text("precious")
        for arguments, reason in ((["pack", folder], "was not packed by this script"), (["pack", "--libs"], "no option --libs"),
                                  (["pack", folder, "two"], "one folder"), (["run", "--fast"], "not a packed folder")):
            if reason not in (said := run(SCRIPT, *arguments, expected=1)):
                sys.exit(f"{arguments} says, instead of '{reason}': {said}")
        if mine.read_text() != "precious":
            sys.exit("it overwrote what it had not packed")


def main():
    programs = pathlib.Path(sys.argv[1]).resolve()
    if shutil.which("shellcheck"):
        run("shellcheck", SCRIPT)
    check_refusals()
    if programs != ROOT / "build" / "release" / "bin" or not (programs / "operators_cuda_tests").exists():
        print("skipped: it packs preset release, built with CUDA, cuDNN and cuBLAS")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        packed = pathlib.Path(folder) / "gpu-check"
        print(run(SCRIPT, "pack", packed))
        listed = run(packed / "bin" / "gpu_tests", "--gtest_list_tests", LD_LIBRARY_PATH=str(packed / "lib"))
        if "TwoHundredKillsLeaveDeviceMemoryAsItWas" not in listed:
            sys.exit(f"the packed tests are others: {listed}")
        unresolved = [line for line in run("ldd", *(packed / "bin").glob("[!m]*"), LD_LIBRARY_PATH=str(packed / "lib")).splitlines()
                      if str(ROOT) in line]
        if unresolved:
            sys.exit("not packed:\n" + "\n".join(unresolved))
        if pathlib.Path("/dev/nvidia0").exists():
            print("left out: what happens without a GPU")
            return 0
        print(run(packed / "gpu-check.sh", "run", expected=77))
        # A machine that says that it has one, which nobody else finds.
        tools = pathlib.Path(folder) / "tools"
        tools.mkdir()
        (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: pretended'\n")
        (tools / "nvidia-smi").chmod(0o755)
        output = run(packed / "gpu-check.sh", "run", expected=1, PATH=f"{tools}:{os.environ['PATH']}")
        if "tests skipped themselves, although there is a GPU" not in output:
            sys.exit(f"it does not say that tests were skipped:\n{output}")
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
