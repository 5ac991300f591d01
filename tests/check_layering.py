#!/usr/bin/env python3
"""Checks who includes whom.

- base sees nothing; ipc and graph see base; operators and daemon see base, ipc and graph (and neither the other).
  Only tests, bench and examples see everything, and nobody sees them.
- iceoryx's headers are included only in ipc/, by .cpp files and by files named iceoryx_*; a header of ours that brings
  them with it is included only there as well, so that no iceoryx type gets into ipc's public headers. (bench and
  tests, which compare with raw iceoryx, may.)
- "..." is for files of this tree, by their path from its root or from the including file; the rest is in <...>
  (iceoryx's headers: either).
- A function or constant of a header hides none of another header's whose namespace is around its own (overloads of
  to_string and to_json aside): where sources are compiled as one, what is meant would change silently.
- A test mirrors its file: tests/ipc/board_test.cpp and tests/ipc/board_WHAT_test.cpp have an ipc/board.hpp or .cpp.

One line per finding, exit code 1 if there is any. --self-test checks the checker.
"""

import argparse
import pathlib
import posixpath
import re
import tempfile

MAY_SEE = {
    "base": set(),
    "ipc": {"base"},
    "graph": {"base"},
    "operators": {"base", "ipc", "graph"},
    "daemon": {"base", "ipc", "graph"},
}
SEE_EVERYTHING = ("tests", "bench", "examples")
MODULES = (*MAY_SEE, *SEE_EVERYTHING)
SOURCES = (".cpp", ".hpp", ".h", ".cc", ".c", ".cu", ".cuh")
ICEORYX = re.compile(r"^(iceoryx_\w+/|iox/|iceoryx_\w+\.hpp$)")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)

NAMESPACE = re.compile(r"^namespace (opsplit(?:::\w+)*) \{", re.MULTILINE)
# What begins a line is at namespace scope.
DECLARED = re.compile(r"^(?!using |namespace |struct |class |enum |template |//)[\w\[][^({=;\n]*?[ &*>](\w+)(?:\(|\{| = )", re.MULTILINE)
MAY_HIDE = {"to_string", "to_json"}
ONE_BY_ONE = ("opsplit::operators::cuda",)  # namespaces whose sources are never compiled as one with others


def blank(match):
    """A comment's newlines, so that line numbers stay."""
    return "\n" * match.group().count("\n") or " "


def includes(text):
    """Yields (line number, name, whether it is in quotes)."""
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.DOTALL)
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1) or match.group(2), match.group(1) is not None


def resolve(name, file, tree):
    """The path, from the root, of an included file of this tree; None for any other."""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(file), name))
    for path in (beside, posixpath.normpath(name)):
        if path in tree or path + ".in" in tree:  # .in: made by CMake
            return path
    return None


def is_iceoryx_place(file):
    """Files that may name iceoryx's types."""
    path = pathlib.PurePosixPath(file)
    if path.parts[0] in ("bench", "tests"):
        return True
    return path.parts[0] == "ipc" and (path.suffix == ".cpp" or path.name.startswith("iceoryx_"))


def bringing_iceoryx(included, tree):
    """The files of this tree that include iceoryx's headers, directly or by another file."""
    users = {}  # of a file: who includes it
    found = set()
    for file, lines in included.items():
        for _, name, _ in lines:
            target = resolve(name, file, tree)
            if target:
                users.setdefault(target, []).append(file)
            elif ICEORYX.match(name):
                found.add(file)
    pending = list(found)
    while pending:
        for user in users.get(pending.pop(), ()):
            if user not in found:
                found.add(user)
                pending.append(user)
    return found


def check_include(file, line, name, quoted, tree, bringing):
    """Yields what is wrong with one include."""
    here = f"{file}:{line}"
    target = resolve(name, file, tree)
    if target is None:
        if ICEORYX.match(name):
            if not is_iceoryx_place(file):
                yield f"{here}: includes iceoryx's {name}: only .cpp files and iceoryx_* files in ipc/ may"
        elif quoted:
            yield f'{here}: "{name}" is not in this tree: a file of another project is included with <...>'
        elif name.split("/")[0] in MODULES and name.endswith(SOURCES):
            yield f"{here}: <{name}> is not in this tree"
        return
    if not quoted:
        if target != posixpath.normpath(name) or "/" not in name:
            return  # a system header that has the name of a file of ours
        yield f'{here}: <{name}> is a file of this tree: include it as "{name}"'
    module, seen = file.split("/")[0], target.split("/")[0]
    if seen in MODULES and module in MAY_SEE and seen != module and seen not in MAY_SEE[module]:
        allowed = ", ".join(sorted(MAY_SEE[module])) or "nothing"
        yield f"{here}: {module} includes {target}, but sees {allowed} only"
    if target in bringing and not is_iceoryx_place(file):
        yield f"{here}: includes {target}, which brings iceoryx: only .cpp files and iceoryx_* files in ipc/ may"


def check_mirror(file, tree):
    """Yields what is wrong with a test's place."""
    path = pathlib.PurePosixPath(file)
    if path.parts[0] != "tests" or len(path.parts) < 3 or path.parts[1] not in MAY_SEE:
        return
    if not path.name.endswith("_test.cpp"):
        return
    tested = posixpath.join(*path.parts[1:-1], path.name[: -len("_test.cpp")])
    # handover_kill_test.cpp tests handover.cpp, too.
    words = path.name[: -len("_test.cpp")].split("_")
    stems = [posixpath.join(*path.parts[1:-1], "_".join(words[:count])) for count in range(1, len(words) + 1)]
    if not any(stem + suffix in tree for stem in stems for suffix in SOURCES):
        yield f"{file}: tests nothing: there is neither {tested}.hpp nor {tested}.cpp"


def check_names(root, headers):
    """Yields whose names hide others, in headers of what is built for users."""
    declared = {}  # name -> its namespaces and files
    for file in headers:
        text = (root / file).read_text(errors="replace")
        namespace = NAMESPACE.search(text)
        if namespace and namespace.group(1) not in ONE_BY_ONE:
            for name in set(DECLARED.findall(text)) - MAY_HIDE:
                declared.setdefault(name, []).append((namespace.group(1) + "::", file))
    for name, places in sorted(declared.items()):
        for inner, file in places:
            for outer, other in places:
                if inner != outer and inner.startswith(outer):
                    yield f"{file}: {inner}{name} hides {outer}{name} of {other}"


def check(root):
    files = [path.relative_to(root).as_posix() for module in MODULES for path in (root / module).rglob("*")]
    tree = set(files)
    sources = sorted(file for file in files if file.endswith(SOURCES))
    included = {file: list(includes((root / file).read_text(errors="replace"))) for file in sources}
    bringing = bringing_iceoryx(included, tree)
    for file in sources:
        for line, name, quoted in included[file]:
            yield from check_include(file, line, name, quoted, tree, bringing)
        yield from check_mirror(file, tree)
    yield from check_names(root, [file for file in sources if file.endswith(".hpp") and file.split("/")[0] in MAY_SEE])


# file -> (its text, a part of every finding expected for it)
GOOD = {
    "base/error.hpp": "#include <string>\n",
    "ipc/board.hpp": '#include "base/error.hpp"\n',
    "ipc/session.cpp": '#include "iceoryx_runtime.hpp"\n#include "iceoryx_posh/popo/sample.hpp"\n',
    "ipc/broker.cpp": '#include <iceoryx_posh/runtime.hpp>\n#include "ipc/iceoryx_runtime.hpp"\n',
    "ipc/iceoryx_runtime.hpp": "#include <iceoryx_posh/runtime/posh_runtime.hpp>\n",
    "ipc/iceoryx_free.hpp": "#pragma once\n",
    "ipc/public_too.hpp": '#include "ipc/iceoryx_free.hpp"\n',
    "ipc/arena.cpp": '#include "board.hpp"\n// #include "daemon/no.hpp"\n/*\n#include "daemon/no.hpp"\n*/\n',
    "graph/graph.hpp": '#include "base/error.hpp"\n',
    "operators/kernels/conv.cpp": '#include "graph/graph.hpp"\n#include "ipc/board.hpp"\n',
    "daemon/daemon.cpp": '#include "ipc/board.hpp"\n',
    "bench/hop.cpp": '#include "daemon/daemon.hpp"\n#include <iceoryx_posh/popo/publisher.hpp>\n',
    "daemon/daemon.hpp": "namespace opsplit::daemon {\ninline constexpr int patience = 3;\nint to_string(int);\n",
    "daemon/cli/cli.hpp": "namespace opsplit::daemon::cli {\nint to_string(int);\nint look();\n",
    "ipc/ipc.hpp": "namespace opsplit::ipc {\ninline constexpr int patience = 4;\n",
    "examples/digits/classify.cpp": '#include "ipc/board.hpp"\n',
    "tests/ipc/board_test.cpp": '#include "ipc/board.hpp"\n#include "daemon/daemon.hpp"\n',
    "tests/operators/kernels/conv_test.cpp": "",
    "tests/ipc/fixture.hpp": "",
    "tests/system/anything_test.cpp": "",
}
BAD = {
    "base/a.cpp": ('#include "ipc/board.hpp"\n', "base includes ipc/board.hpp"),
    "ipc/a.cpp": ('#include "graph/graph.hpp"\n', "ipc includes graph/graph.hpp"),
    "ipc/b.cpp": ('#include "../daemon/daemon.hpp"\n', "ipc includes daemon/daemon.hpp"),
    "ipc/quoted.hpp": ('#include "iceoryx_versions.hpp"\n', "includes iceoryx's"),
    "ipc/public.hpp": ("#include <iceoryx_posh/popo/sample.hpp>\n", "includes iceoryx's"),
    "ipc/leak.hpp": ('#include "ipc/iceoryx_runtime.hpp"\n', "includes ipc/iceoryx_runtime.hpp, which brings iceoryx"),
    "daemon/leak.cpp": ('#include "ipc/leak.hpp"\n', "includes ipc/leak.hpp, which brings iceoryx"),
    "graph/a.cpp": ('#include "ipc/board.hpp"\n', "graph includes ipc/board.hpp"),
    "operators/a.cpp": ('#include "daemon/daemon.hpp"\n', "operators includes daemon/daemon.hpp"),
    "operators/b.cpp": ("#include <iceoryx_hoofs/log/logger.hpp>\n", "includes iceoryx's"),
    "operators/c.cpp": ("#include <graph/graph.hpp>\n", 'include it as "graph/graph.hpp"'),
    "daemon/a.cpp": ('  #  include  "operators/kernels/conv.cpp"\n', "daemon includes operators/kernels/conv.cpp"),
    "daemon/b.cpp": ('#include "tests/ipc/fixture.hpp"\n', "daemon includes tests/ipc/fixture.hpp"),
    "daemon/c.cpp": ('#include "ipc/iceoryx_runtime.hpp"\n', "includes ipc/iceoryx_runtime.hpp"),
    "daemon/d.cpp": ('#include "gone.hpp"\n', '"gone.hpp" is not in this tree'),
    "daemon/cli/names.hpp": ("namespace opsplit::daemon::cli {\ninline constexpr int patience(5);\n", "::patience hides"),
    "daemon/cli/more.hpp": ("namespace opsplit::daemon::cli {\nconst char* patience(int);\n", "::patience hides"),
    "examples/digits/a.cpp": ("#include <iceoryx_posh/popo/sample.hpp>\n", "includes iceoryx's"),
    "tests/ipc/nothing_test.cpp": ("", "tests nothing"),
    "tests/daemon/board_test.cpp": ("", "tests nothing"),
}


def write_tree(root, files):
    for file, text in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)


def self_test():
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_tree(root, GOOD)
        wrong += [f"finds a fault where there is none: {finding}" for finding in check(root)]
        write_tree(root, {file: text for file, (text, _) in BAD.items()})
        findings = list(check(root))
        for file, (_, expected) in BAD.items():
            own = [finding for finding in findings if finding.startswith(file + ":")]
            if len(own) != 1 or expected not in own[0]:
                wrong.append(f"{file}: expected one finding with '{expected}', found {own}")
        wrong += [f"unexpected: {finding}" for finding in findings if finding.split(":")[0] not in BAD]
    for line in wrong:
        print(f"self-test: {line}")
    print(f"self-test: {len(BAD)} violations, {len(GOOD)} files in order, {len(wrong)} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not any((options.root / module).is_dir() for module in MODULES):
        parser.error(f"{options.root}: no folder of this project in it")
    findings = list(check(options.root))
    print("\n".join(findings) if findings else "layering: in order")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
