#!/usr/bin/env python3
"""`pip install` of the source tree, as docs/python.md has it, and what came of it.

usage: pip_install_test.py BIN_DIR [TEST...]

Exit code 77, skipped: what pip builds with, and NumPy, are not to be had here.
"""

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
LEAST_RIGHT = 0.99
LIMIT_S = 3000
programs = pathlib.Path()
folder = pathlib.Path()  # with a copy of the tree, and a virtual environment, into which the package is installed

# What a user sees of a module: for each name, the names in it if that is a class.
NAMES = """
import inspect, json
from opsplit import _core
seen = lambda entry: {name: value for name, value in vars(entry).items() if not name.startswith("_")}
print(json.dumps({name: sorted(seen(value)) if inspect.isclass(value) and not issubclass(value, Exception) else None
                  for name, value in seen(_core).items()}))
"""
CLASSIFY = """
import sys
import numpy as np, opsplit
images, labels = (np.load(f"{sys.argv[1]}/test_{name}.npy") for name in ("images", "labels"))
client = opsplit.connect("digits")
scores = [client.infer(image.astype(np.float32).reshape(1, 1, 8, 8) / 16) for image in images]
print(np.mean(np.concatenate(scores).argmax(axis=1) == labels))
"""


def run(*command, **keywords):
    # Nothing but what is installed.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())}
    keywords |= {"env": environment, "timeout": LIMIT_S}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **keywords)


def package():
    return folder / "source" / "operators" / "python" / "opsplit"


def python(*arguments):
    done = run(folder / "venv" / "bin" / "python", *arguments, cwd=folder)
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout


def copy_source():
    """pip builds where the source lies."""

    def ignored(directory, names):
        return [name for name in names if pathlib.Path(directory) == ROOT and re.match(r"build|\.git$", name)]

    shutil.copytree(ROOT, folder / "source", ignore=ignored, symlinks=True)


def install():
    venv.create(folder / "venv", with_pip=True)
    copy_source()
    requires = re.search(r"^requires = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    pip = (folder / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install")
    needed = run(*pip, *ast.literal_eval(requires[1]), "numpy")
    if needed.returncode != 0:
        print(f"skipped: {needed.stderr.strip()}")
        raise SystemExit(77)
    # From now on without the network.
    done = run(*pip, "--no-index", "--no-build-isolation", folder / "source")
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)


class PipInstallTest(unittest.TestCase):
    def test_all_of_the_package_is_there_and_its_types(self):
        files = python("-c", "import importlib.metadata as m; print(*m.files('opsplit'), sep='\\n')").split()
        for source in (*package().glob("*.py"), *package().glob("*.pyi"), package() / "py.typed"):
            self.assertIn(f"opsplit/{source.name}", files)
        self.assertEqual([name for name in files if name.startswith("..") and "/bin/" not in name], [])

    def test_it_is_what_is_imported_and_of_the_commands_version(self):
        where, version = python("-c", "import opsplit; print(opsplit.__file__, opsplit.__version__)").split()
        self.assertTrue(pathlib.Path(where).is_relative_to(folder / "venv"), where)
        self.assertEqual(run(programs / "opsplit", "--version").stdout.split()[-1], version)

    def test_the_stub_names_what_the_module_has(self):
        stub = {}
        for entry in ast.parse((package() / "_core.pyi").read_text()).body:
            if isinstance(entry, ast.FunctionDef):
                stub[entry.name] = None
            elif isinstance(entry, ast.ClassDef):
                members = {one.name for one in entry.body if isinstance(one, ast.FunctionDef)}
                is_error = bool(entry.bases)
                stub[entry.name] = None if is_error else sorted(name for name in members if not name.startswith("_"))
        self.assertEqual(json.loads(python("-c", NAMES)), stub)

    def test_its_client_asks_a_deployment(self):
        up = run(programs / "opsplit", "up", DIGITS / "digits.onnx", "--name", "digits")
        self.addCleanup(run, programs / "opsplit", "down")
        self.assertEqual(up.returncode, 0, up.stderr)
        self.assertGreater(float(python("-c", CLASSIFY, DIGITS)), LEAST_RIGHT)

    def test_its_programs_say_what_they_need(self):
        for name, package in (("onnxruntime", "onnxruntime"), ("pytorch", "torch"), ("tensorflow", "tensorflow")):
            done = run(folder / "venv" / "bin" / f"opsplit-operator-{name}", "--help")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rf"^opsplit\.{name}: .* is not installed: pip install {package}.*\n$")


if __name__ == "__main__":
    programs = pathlib.Path(sys.argv.pop(1)).resolve()
    # Not in /tmp, which may lie in memory.
    with tempfile.TemporaryDirectory(dir=programs.parent, prefix="pip-install-") as name:
        folder = pathlib.Path(name)
        install()
        unittest.main(verbosity=2)
