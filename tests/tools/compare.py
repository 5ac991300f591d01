#!/usr/bin/env python3
"""Compares two folders of .npy files, element by element.

The same names, types and shapes; every number finite; every difference at most RTOL times the largest absolute value
of the reference tensor (integers and truth values: equal). One line for each tensor; exit code 1 if any differs.
Needs numpy.
"""

import argparse
import pathlib

import numpy as np


def relative_error(expected, actual):
    """The largest difference, in units of the largest expected value."""
    wide = expected.astype(np.float64)
    return float(np.abs(actual - wide).max(initial=0) / (np.abs(wide).max(initial=0) or 1.0))


def difference(expected, actual, rtol):
    """(whether they agree, what to say about it)"""
    if expected.dtype != actual.dtype:
        return False, f"type {actual.dtype}, expected {expected.dtype}"
    if expected.shape != actual.shape:
        return False, f"shape {list(actual.shape)}, expected {list(expected.shape)}"
    if expected.dtype.kind != "f":
        wrong = int(np.sum(expected != actual))
        return wrong == 0, f"{wrong} of {expected.size} elements differ" if wrong else "equal"
    for name, values in (("expected", expected), ("actual", actual)):
        if not np.isfinite(values).all():
            return False, f"{int(np.sum(~np.isfinite(values)))} of {values.size} {name} elements are not finite"
    if not expected.size:
        return True, "empty"
    wide = expected.astype(np.float64)
    off = np.abs(actual.astype(np.float64) - wide)
    scale = np.abs(wide).max()
    allowed = rtol * (scale or 1.0)
    text = f"largest difference {off.max() / (scale or 1.0):.2e} of the scale {scale:.3g}"
    wrong = int(np.sum(off > allowed))
    if wrong:
        where = [int(index) for index in np.unravel_index(off.argmax(), off.shape)]
        text += f" at {where}; {wrong} of {off.size} elements differ by more than {rtol:g}"
    return wrong == 0, text


def load(path):
    try:
        return np.load(path), ""
    except (OSError, ValueError, EOFError) as error:
        return None, f"cannot be read: {error}"


def compare(expected_dir, actual_dir, rtol):
    """Yields (name, whether they agree, what to say about it)."""
    files = {folder: {path.name for path in folder.glob("*.npy")} for folder in (expected_dir, actual_dir)}
    for name in sorted(files[expected_dir] | files[actual_dir]):
        if name not in files[actual_dir]:
            yield name, False, f"missing in {actual_dir}"
        elif name not in files[expected_dir]:
            yield name, False, f"not expected, but in {actual_dir}"
        else:
            (expected, no_expected), (actual, no_actual) = load(expected_dir / name), load(actual_dir / name)
            if no_expected or no_actual:
                yield name, False, no_expected or no_actual
            else:
                yield name, *difference(expected, actual, rtol)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expected", type=pathlib.Path)
    parser.add_argument("actual", type=pathlib.Path)
    parser.add_argument("--rtol", type=float, default=1e-3, help="default: %(default)s")
    options = parser.parse_args()
    for folder in (options.expected, options.actual):
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    total = failed = 0
    for name, agrees, text in compare(options.expected, options.actual, options.rtol):
        print(f"{'ok    ' if agrees else 'DIFFER'} {name[:-4]}: {text}")
        total += 1
        failed += not agrees
    if not total:
        print(f"DIFFER no .npy file in {options.expected}")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    raise SystemExit(main())
