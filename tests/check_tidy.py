#!/usr/bin/env python3
"""Checks that the tree is tidy.

- Source files have at most 900 lines.
- No tab, no space at the end of a line, a newline at the end of the file.
- clang-format finds nothing to change. The version is pinned here; where it is not installed, this says so and skips.
- No notes to oneself (the words are in NOTES below), no path of one machine, no host of a package registry.
- ARCHITECTURE.md names every source file but tests and build files, and none that is not there, in its last section;
  `ipc/board.{hpp,cpp}` names two.

One line per finding, exit code 1 if there is any. --self-test checks the checker. --clang-tidy BUILD runs clang-tidy
(minutes) with BUILD/compile_commands.json instead.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

CLANG_VERSION = 14  # Debian 12's; the one place where it is written
MAX_LINES = 900
CODE = (".cpp", ".hpp", ".h", ".cc", ".c", ".cu", ".cuh")
SOURCES = (*CODE, ".py", ".sh", ".pml", ".cmake", ".proto")
SOURCE_NAMES = ("CMakeLists.txt", "Dockerfile", "run")
BINARY = (".npy", ".npz", ".onnx", ".pb", ".bin", ".png", ".jpg", ".gz", ".so", ".a", ".o")
AS_THEY_ARE = ("LICENSE",)
SKIPPED_FOLDERS = re.compile(r"^(\.git|\.cache|__pycache__|build.*)$")
# Written so that this file does not find itself.
NOTES = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(work|tmp/venv|root)" r"/(?=[\w.])")
REGISTRIES = re.compile(
    r"\b(pypi\." r"org|pythonhosted\." r"org|deb\.debian\." r"org|security\.debian\." r"org|snapshot\.debian\." r"org|"
    r"registry\.npmjs\." r"org|crates\." r"io|proxy\.golang\." r"org|registry-1\.docker\." r"io|conda\.anaconda\." r"org)\b"
)


def tree_of(root):
    """Paths from the root of all files: those that git has or would take, or all but what is built."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (root / ".git").exists():
        try:
            listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
            return sorted(file for file in set(listed) if file and (root / file).is_file())
        except (OSError, subprocess.CalledProcessError):
            pass  # no git on this machine, or it does not trust the folder's owner
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not SKIPPED_FOLDERS.match(name)]
        found += [(pathlib.Path(folder) / name).relative_to(root).as_posix() for name in files if name != ".git"]
    return sorted(found)


def is_source(file):
    return file.endswith(SOURCES) or file.rsplit("/", 1)[-1] in SOURCE_NAMES


def check_text(file, text):
    if text and not text.endswith("\n"):
        yield f"{file}: no newline at the end"
    lines = text.splitlines()
    if is_source(file) and len(lines) > MAX_LINES:
        yield f"{file}: {len(lines)} lines, more than {MAX_LINES}"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield f"{file}:{number}: a tab"
        if line != line.rstrip():
            yield f"{file}:{number}: space at the end of the line"
        for pattern, what in ((NOTES, "a note"), (MACHINE_PATHS, "a machine's path"), (REGISTRIES, "a registry's host")):
            match = pattern.search(line)
            if match:
                yield f"{file}:{number}: {what}: {match.group()}"


def expand(name):
    """`ipc/board.{hpp,cpp}` -> both."""
    match = re.match(r"^(.*)\{([^{}]*)\}(.*)$", name)
    if not match:
        return [name]
    return [match.group(1) + part + match.group(3) for part in match.group(2).split(",")]


def speaks_for_itself(file):
    """A test mirrors the file that it tests, and a build file builds its folder."""
    return file.endswith(("_test.cpp", "_test.cu", "_test.py")) or file.rsplit("/", 1)[-1] in ("CMakeLists.txt", "tests.cmake")


def check_architecture(root, files):
    path = root / "ARCHITECTURE.md"
    if not path.exists():
        yield "ARCHITECTURE.md: is missing"
        return
    sections = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    named = {}
    for name in re.findall(r"`([^`\s]+)`", sections[-1]):
        for file in expand(name):
            named[file] = named.get(file, 0) + 1
    for file in files:
        if is_source(file) and not speaks_for_itself(file) and file not in named:
            yield f"ARCHITECTURE.md: {file} is not named in its last section"
    for name in named:
        if is_source(name) and "/" in name and name not in files:
            yield f"ARCHITECTURE.md: names {name}, which does not exist"


def clang_tool(name):
    """The program of the pinned version, or None."""
    for program in (f"{name}-{CLANG_VERSION}", name):
        if shutil.which(program):
            says = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            if re.search(rf"version {CLANG_VERSION}\.", says):
                return program
    return None


def check_format(root, files):
    program = clang_tool("clang-format")
    if not program:
        print(f"tidy: SKIPPED clang-format: version {CLANG_VERSION} is not installed")
        return
    code = [file for file in files if file.endswith(CODE)]
    for start in range(0, len(code), 50):
        command = [program, "--dry-run", "--style=file", *code[start : start + 50]]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if result.returncode:
            yield f"clang-format: {result.stderr.strip().splitlines()[-1:]}"
        seen = set()
        for match in re.finditer(r"^(\S+?):(\d+):\d+: warning: code should be", result.stderr, re.MULTILINE):
            if match.group(1) not in seen:
                seen.add(match.group(1))
                yield f"{match.group(1)}:{match.group(2)}: not as {program} -i makes it"


def check(root):
    files = tree_of(root)
    for file in files:
        if file.endswith(BINARY) or file in AS_THEY_ARE:
            continue
        try:
            text = (root / file).read_text()
        except UnicodeDecodeError:
            yield f"{file}: neither text nor known as binary"
            continue
        yield from check_text(file, text)
    yield from check_architecture(root, files)
    yield from check_format(root, files)


def run_clang_tidy(root, build):
    """Prints clang-tidy's findings on every file of ours that is built."""
    program = clang_tool("clang-tidy")
    if not program:
        print(f"tidy: SKIPPED clang-tidy: version {CLANG_VERSION} is not installed")
        return 0
    commands = json.loads((build / "compile_commands.json").read_text())
    ours = {(root / file).resolve() for file in tree_of(root)}
    files = {command["file"] for command in commands if pathlib.Path(command["file"]).resolve() in ours}
    files = sorted(file for file in files if not file.endswith(".cu"))  # nvcc's options are not clang's

    def one(file):
        command = [program, "-p", str(build), "--quiet", "--warnings-as-errors=*", file]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(one, files):
            failed += result.returncode != 0
            print(result.stdout, end="", flush=True)
    print(f"clang-tidy: {len(files)} files, {failed} with findings")
    return 1 if failed or not files else 0


def self_test():
    tree = {
        "ARCHITECTURE.md": "# A\n\n`ipc/unnamed.hpp`\n\n## Files\n\n- `ipc/a.{hpp,cpp}`: a\n- `ipc/gone.hpp`: b\n"
        "- `ipc/long.py`\n- `ipc/badly.cpp`\n",
        "ipc/a.hpp": "int a;\n",
        "ipc/a.cpp": "int\ta;\n",
        "ipc/unnamed.hpp": "int b; \n",
        "ipc/long.py": "a\n" * (MAX_LINES + 1),
        "ipc/badly.cpp": "int   c ;\n",
        "docs/n.md": "one\n" + "TO" "DO\n" + "see /wo" "rk/main/x\n" + "from py" "pi.org\n" + "mkdtemp(" + "X" * 6 + ") and docs/work/x\nend",
        "build/x.md": "\t\n",
        ".clang-format": "BasedOnStyle: Google\n",
    }
    expected = [
        "ARCHITECTURE.md: ipc/unnamed.hpp is not named",
        "ARCHITECTURE.md: names ipc/gone.hpp",
        "docs/n.md: no newline",
        "docs/n.md:2: a note",
        "docs/n.md:3: a machine's path",
        "docs/n.md:4: a registry's host",
        "ipc/a.cpp:1: a tab",
        "ipc/long.py: 901 lines",
        "ipc/unnamed.hpp:1: space",
    ]
    if clang_tool("clang-format"):
        expected += [f"ipc/{file}:1: not as" for file in ("a.cpp", "badly.cpp", "unnamed.hpp")]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for file, text in tree.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)
        findings = list(check(root))
    missed = [text for text in expected if sum(finding.startswith(text) for finding in findings) != 1]
    extra = [finding for finding in findings if not finding.startswith(tuple(expected))]
    for line in [f"missed: {text}" for text in missed] + [f"unexpected: {finding}" for finding in extra]:
        print(f"self-test: {line}")
    print(f"self-test: {len(expected)} violations, {len(missed) + len(extra)} wrong")
    return 1 if missed or extra else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--clang-tidy", type=pathlib.Path, metavar="BUILD")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.clang_tidy:
        return run_clang_tidy(options.root, options.clang_tidy)
    findings = list(check(options.root))
    print("\n".join(findings) if findings else "tidy: in order")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
