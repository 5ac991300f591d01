#!/usr/bin/env python3
"""Fetches a real text detector, ch_PP-OCRv4_det_infer.onnx of the PyPI package rapidocr-onnxruntime, as
DIR/NAME/model.onnx, where it is not there yet. Its one input, x, has any height and width that 32 divides.
"""

import argparse
import fcntl
import pathlib
import subprocess
import sys
import tempfile
import zipfile

WHEEL = "rapidocr-onnxruntime==1.4.4"
IN_WHEEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"


def fetch(out):
    with tempfile.TemporaryDirectory(dir=out) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # The package wants older Pythons than some have; the model in its wheel does not.
        command += ["--only-binary=:all:", "--python-version", "3.11", "--dest", folder, WHEEL]
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit(f"detector: pip could not download the wheel of {WHEEL}")
        return zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))).read(IN_WHEEL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("names", nargs="+", metavar="NAME", help="folders to make, one for each size to be tested")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run at once fetch it once
        missing = [name for name in options.names if not (options.out / name / "model.onnx").exists()]
        content = fetch(options.out) if missing else b""
        for name in missing:
            folder = options.out / name
            folder.mkdir(exist_ok=True)
            (folder / "part").write_bytes(content)
            (folder / "part").rename(folder / "model.onnx")


if __name__ == "__main__":
    main()
