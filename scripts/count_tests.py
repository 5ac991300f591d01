#!/usr/bin/env python3
"""Adds up the JUnit files of several ctest runs and prints one line of counts; exit code 1 if anything failed.

The line is `N passed, N failed`, followed by `, N skipped` if there are any. A file that is missing or broken, or
without a test in it, counts as one failure, and so does each --failed (a build, say). The names of the failed
and of the skipped are printed before it.
"""

import argparse
import pathlib
import xml.etree.ElementTree


def reason(case):
    """What a skipped test says about why, as far as it is GoogleTest's."""
    lines = (case.findtext("system-out") or "").splitlines()
    for said, text in zip(lines, lines[1:]):
        if said.endswith("Skipped") and text.strip():
            return f" ({text.strip()})"
    return ""


def outcomes(path):
    """Yields (run, test, "passed" | "failed" | "skipped")."""
    run = path.stem
    try:
        cases = list(xml.etree.ElementTree.parse(path).iter("testcase"))
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        yield run, f"no result of this run ({error})", "failed"
        return
    if not cases:
        yield run, "no test was run", "failed"
    for case in cases:
        name, status, skipped = case.get("name"), case.get("status"), case.find("skipped")
        # ctest says "skipped" also of a test that could not run (no executable, no file, a failed fixture): that failed.
        said_so = skipped is not None and skipped.get("message", "").startswith("SKIP_")
        if status == "run":
            yield run, name, "passed"
        elif status == "disabled" or said_so:
            yield run, name + reason(case), "skipped"
        else:
            yield run, name, "failed"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("junit", nargs="*", type=pathlib.Path)
    parser.add_argument("--failed", action="append", default=[], metavar="WHAT", help="something else that failed")
    options = parser.parse_args()
    every = [("", what, "failed") for what in options.failed]
    for path in options.junit:
        every.extend(outcomes(path))
    count = {kind: 0 for kind in ("passed", "failed", "skipped")}
    for run, name, kind in every:
        count[kind] += 1
        if kind != "passed":
            print(f"{kind}: {run + ': ' if run else ''}{name}")
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    print(f"{count['passed']} passed, {count['failed']} failed{skipped}")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
